"""The model card: what a person should know before using a release, as Markdown."""

from collections.abc import Iterable

from zoo import tasks
from zoo.config import Preprocessing
from zoo.linting.wording import counted, percent
from zoo.metric_names import spelt
from zoo.preprocess import GREY
from zoo.releases.acceptance import told
from zoo.releases.lint import Lint
from zoo.releases.manifest import FILES, Manifest
from zoo.releases.results import STAND_IN, cells, markdown
from zoo.releases.training import started, trained

NO_REASON = "no reason is given"


def card(manifest: Manifest) -> str:
    """The card's text."""
    sections = [
        f"# {manifest.name}\n\n{_what(manifest)}",
        "## Results\n\n" + _results(manifest),
        "## Surgery\n\n" + _surgery(manifest),
        *([f"## Target\n\n{_target(manifest, manifest.lint)}"] if manifest.lint else []),
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
    training = "\n".join(f"- {stage}: {trained(evaluation)}" for stage, evaluation in stages)
    parity = manifest.onnx.parity
    return "\n\n".join(
        [
            markdown([cells(manifest)]),
            f"The metric is {spelt(accuracy.headline)} on {data} and says nothing about any other data."
            + (f" {STAND_IN}" if accuracy.stand_in else ""),
            *([f"Images are fitted as under Use, which is {how}."] if (how := manifest.origin.measured_as) else []),
            *([f"The recipe's bound: {told(held, accuracy.headline)}."] if (held := manifest.acceptance) else []),
            "What each was trained on, and for how long:\n\n" + training,
            "MACs are multiply-accumulates for one image, half the floating-point operations that "
            "torch.utils.flop_counter counts. Latency is the median for one image, with the quartiles as spread, of "
            f"{manifest.latency.rounds} rounds in which source and final model took turns; the speed-up is the "
            f"median of the rounds' ratios: "
            f"{manifest.latency.runtime}, {manifest.latency.threads} thread(s), {manifest.latency.machine}.",
            f"ONNX differs from PyTorch by at most {parity.absolute:.2g}, {parity.relative:.2g} of the largest output, "
            f"on {parity.images} validation images.",
        ]
    )


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
        if warm_start := manifest.surgery.warm_start:
            text += f"\n\nThe warm start, from training images without labels: {started(warm_start)}."
    if "explanation" in manifest.files:
        text += " Why the target needs each rule, and what no rule removes, is in `explanation.json`."
    refusals = "\n".join(f"- `{r.rule}` at `{r.site}`: {r.reason}" for r in manifest.surgery.refusals)
    return text + (f"\n\nLeft as they were:\n\n{refusals}" if refusals else "")


def _target(manifest: Manifest, lint: Lint) -> str:
    where = f"`{manifest.target}`" + (f", device `{lint.device}`," if lint.device else "")
    nodes, macs = _share(lint.accelerated_nodes, lint.nodes), _share(lint.accelerated_macs, lint.macs)
    parts = counted(lint.subgraphs, "accelerated subgraph")
    runs = f", of which its runtime takes {lint.max_subgraphs}" if lint.max_subgraphs else ""
    text = (
        f"{where} accelerates {lint.accelerated_nodes} of {lint.nodes} nodes ({nodes}) and {macs} of the "
        f"multiply-accumulates, in {parts}{runs}; {counted(lint.warnings, 'warning')}, "
        f"{counted(lint.costs, 'cost')} in speed or exactness."
    )
    if manifest.onnx.host:
        text += (
            f" Not counted is what the host does by design: all behind {len(manifest.onnx.host)} tensors, which "
            "`release.json` names under `onnx.host`."
        )
    paragraphs = [text, _left(lint), _other_targets(manifest, lint), "Every node and every finding is in `lint.json`."]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _left(lint: Lint) -> str:
    if not lint.left and lint.accelerated_nodes < lint.nodes:
        return f"Nothing is refused; of {lint.nodes - lint.accelerated_nodes} nodes the ONNX file does not tell."
    if not lint.left:
        return "Nothing is left to the host."
    header = ("left to the host", "nodes", "first layer", "what the target says", "why it stays")
    rows = [
        (
            each.op or "the model",
            str(each.nodes),
            f"`{each.module}`" if each.module else "",
            each.fact,
            each.why or NO_REASON,
        )
        for each in lint.left
    ]
    return _table(header, rows)


def _other_targets(manifest: Manifest, lint: Lint) -> str:
    others = {name: found for name, found in sorted(lint.targets.items()) if name != manifest.target}
    if not others:
        return ""
    header = ("other target, all its devices", "clean", "nodes", "MACs", "subgraphs")
    rows = [
        (
            f"`{name}`",
            "yes" if found.clean else "no",
            percent(found.node_share),
            percent(found.mac_share),
            str(found.subgraphs),
        )
        for name, found in others.items()
    ]
    return _table(header, rows)


def _share(part: int, whole: int) -> str:
    return percent(part / whole) if whole else "all"


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
    if how.geometry in ("letterbox", "corner"):
        place = "in the middle" if how.geometry == "letterbox" else "in the upper left corner"
        fitted = (
            f"long side resized to {how.size} ({how.interpolation}), {place} of a square of "
            f"{how.size} x {how.size} that is grey ({GREY} of 255) elsewhere"
        )
    elif how.geometry == "stretch":
        fitted = f"both sides resized to {how.size} ({how.interpolation})"
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
