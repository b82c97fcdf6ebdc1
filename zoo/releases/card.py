"""The model card: what a person should know before using a release, as Markdown."""

from collections.abc import Iterable

from zoo import tasks
from zoo.config import Preprocessing
from zoo.metric_names import spelt
from zoo.preprocess import GREY
from zoo.releases.manifest import FILES, Evaluation, Manifest
from zoo.releases.results import STAND_IN, cells, markdown


def card(manifest: Manifest) -> str:
    """The card's text."""
    sections = [
        f"# {manifest.name}\n\n{_what(manifest)}",
        "## Results\n\n" + _results(manifest),
        "## Surgery\n\n" + _surgery(manifest),
        "## Use\n\n" + _use(manifest),
        "## Licences\n\n" + _licences(manifest),
        "## Provenance\n\n" + _provenance(manifest),
    ]
    return "\n\n".join(sections) + "\n"


def _what(manifest: Manifest) -> str:
    origin = manifest.origin
    source = f"{origin.library}'s `{origin.model}` ({origin.library} {origin.library_version})"
    if manifest.lite:
        text = f"A lite version of {source} for the target `{manifest.target}`."
    else:
        text = (
            f"{source}, unmodified: surgery for the target `{manifest.target}` found nothing to replace, "
            "so this release is not a lite model."
        )
    return text + (f" {manifest.description.strip()}" if manifest.description.strip() else "")


def _results(manifest: Manifest) -> str:
    accuracy = manifest.accuracy
    measured = accuracy.lite
    data = f"`{measured.dataset}` ({measured.images} validation images, digest `{measured.dataset_digest[:12]}`)"
    stages = (("source", accuracy.source), ("after surgery", accuracy.after_surgery), ("final", accuracy.lite))
    training = "\n".join(f"- {stage}: {_trained(evaluation)}" for stage, evaluation in stages)
    parity = manifest.onnx.parity
    return "\n\n".join(
        [
            markdown([cells(manifest)]),
            f"The metric is {spelt(accuracy.headline)} on {data} and says nothing about any other data."
            + (f" {STAND_IN}" if accuracy.stand_in else ""),
            "What each was trained on:\n\n" + training,
            "MACs are multiply-accumulates for one image, half the floating-point operations that "
            "torch.utils.flop_counter counts. Latency is the median for one image, with the quartiles as spread, of "
            f"{manifest.latency.rounds} rounds in which source and final model took turns; the speed-up is the "
            f"median of the rounds' ratios: "
            f"{manifest.latency.runtime}, {manifest.latency.threads} thread(s), {manifest.latency.machine}.",
            f"ONNX differs from PyTorch by at most {parity.absolute:.2g}, {parity.relative:.2g} of the largest output, "
            f"on {parity.images} validation images.",
        ]
    )


def _trained(evaluation: Evaluation) -> str:
    on = evaluation.trained_on.strip() or "not trained"
    return f"{on}, {evaluation.epochs} epochs" if evaluation.epochs else on


def _surgery(manifest: Manifest) -> str:
    if not manifest.surgery.edits:
        text = "No rule found anything to edit."
    else:
        header = ("rule", "edits", "promise")
        rows = [
            (f"`{rule}`", str(count), manifest.surgery.promises.get(rule, ""))
            for rule, count in sorted(manifest.surgery.edits.items())
        ]
        text = _table(header, rows) + "\n\nEvery edit, with the name of its module, is in `plan.json`."
    refusals = "\n".join(f"- `{r.rule}` at `{r.site}`: {r.reason}" for r in manifest.surgery.refusals)
    return text + (f"\n\nLeft as they were:\n\n{refusals}" if refusals else "")


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = tuple(header)
    lines = [columns, tuple("---" for _ in columns), *(tuple(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _use(manifest: Manifest) -> str:
    origin = manifest.origin
    further = ", ".join(f"`{file.path}`" for kind, file in sorted(manifest.files.items()) if kind not in FILES)
    paragraphs = [
        "```python\n"
        "import zoo\n\n"
        f'model = zoo.load("{manifest.name}", version={manifest.version})  # in eval mode\n'
        "answer = model(model.preprocess(image)[None])  # image: a PIL image or an array (H, W, 3) of uint8\n"
        f'onnx = zoo.get("{manifest.name}", version={manifest.version}).file("onnx")\n'
        "```",
        f"`zoo predict {manifest.name} IMAGE -o out.png` draws what it finds.",
        f"Input: {_input(origin.preprocessing)}",
        f"Output: {tasks.find(origin.task).RETURNS}",
        f"Classes: {origin.num_classes}, in the order of the labels in `plan.json`.",
    ]
    return "\n\n".join(
        [*paragraphs, *([f"Further files, for those who run the ONNX file: {further}."] if further else [])]
    )


def _input(how: Preprocessing) -> str:
    if how.geometry == "letterbox":
        fitted = (
            f"long side resized to {how.size} ({how.interpolation}), in the middle of a square of "
            f"{how.size} x {how.size} that is grey ({GREY} of 255) elsewhere"
        )
    else:
        fitted = f"short side resized to {how.resize} ({how.interpolation}), centre crop of {how.size} x {how.size}"
    return (
        f"{how.channels}, NCHW, float32; {fitted}; scaled to [0, 1], less the mean {_numbers(how.mean)}, over the "
        f"deviation {_numbers(how.std)} of red, green, blue."
    )


def _numbers(values: Iterable[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def _licences(manifest: Manifest) -> str:
    licences = manifest.licences
    return f"- code of the source model: {licences.code}\n- weights: {licences.weights}\n- data: {licences.data}"


def _provenance(manifest: Manifest) -> str:
    built = manifest.provenance
    libraries = ", ".join(f"{name} {version}" for name, version in sorted(built.libraries.items()))
    commit = "not recorded" if built.commit is None else built.commit + (" with local changes" if built.dirty else "")
    commands = "\n".join(built.commands)
    return (
        f"Version {manifest.version}, profile `{built.profile}`, commit {commit}. Built with {libraries}.\n\n"
        f"```\n{commands}\n```\n\nDigests of all files are in `release.json`; `zoo verify {manifest.name}` checks them."
    )
