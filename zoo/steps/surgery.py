"""Surgery: pick and apply rules, start what they replaced from measured values, evaluate before any training."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from torch import Tensor, nn

import surgery
from surgery.choice import Sites
from zoo import tasks
from zoo.atomic import write_json
from zoo.choosing.choose import choose
from zoo.choosing.deployment import Deployment
from zoo.choosing.explanation import Explanation
from zoo.data.summary import read_summary
from zoo.errors import StepError
from zoo.job import Job, Result
from zoo.origin import Origin
from zoo.recipe import Export, Surgery, WarmStart
from zoo.source_model import load_weights, save_weights, source_model
from zoo.targets.identity import read_same
from zoo.training.accelerated import accelerated

EXPLANATION = "explanation.json"
REFIT_IMAGES = 512  # that layers are fitted on: more of them gave MobileNetV3 nothing
WITHOUT = "surgery: {warm_start: {refit: false, reconstruction_steps: 0}}"
HELD = 2**29  # values of model inputs that a reconstruction holds and goes through again: 2 GB
AT_ONCE = 32  # images of one of its steps, at most: what a large batch leaves for the backward pass is tens of GB


def run(job: Job) -> Result:
    """Writes plan.json, report.json, initial.safetensors and metrics.json, and explanation.json where the target
    decides of the rules.

    Raises StepError where surgery fails, finds nothing though the recipe expects edits, or the reverse.
    """
    settings = Surgery.model_validate(job.settings["surgery"])
    origin = Origin.model_validate_json((job.upstream["baseline"] / "source.json").read_text())
    source = source_model(origin)
    load_weights(source, job.upstream["baseline"] / "source.safetensors")
    task = tasks.find(origin.task)
    batches = list(_batches(job, origin, settings.calibration_batches))
    try:
        explanation = _chosen(job, source, origin, batches) if settings.rules == "auto" else None
        rules, sites = _rules(settings, explanation)
        lite, report = surgery.lite(source, rules, (batches[0][:1],), batches, sites, _warm_start(settings.warm_start))
    except surgery.SurgeryError as error:
        raise StepError(f"{job.model}: surgery: {error}") from error
    _require_expected(job.model, settings, report)
    told = report.to_json()
    fitting: dict[str, Any] = {}
    if report.is_lite:
        fitted, fitting = _reconstruct(job, lite, source, origin, settings)
        fitted |= {"lengths": _lengthened(job.model, lite, source, report.plan, batches[0][:1])}
        told |= fitted | {"warm_start": told["warm_start"] | fitted["warm_start"]}
    if explanation is not None:
        write_json(job.folder / EXPLANATION, explanation.to_json())
    write_json(job.folder / "plan.json", report.plan.to_json())
    write_json(job.folder / "report.json", told)
    save_weights(lite, job.folder / "initial.safetensors")
    with accelerated(lite):
        metrics = task.evaluate(lite.eval(), job.upstream["data"], origin.preprocessing) | fitting
    write_json(job.folder / "metrics.json", metrics)
    names = ["plan.json", "report.json", "initial.safetensors", "metrics.json"]
    names += [] if explanation is None else [EXPLANATION]
    summary = {"edits": len(report.edits), "refusals": len(report.refusals), task.METRIC: metrics[task.METRIC]}
    return Result(tuple(job.folder / name for name in names), summary)


def _batches(job: Job, origin: Origin, count: int, size: int | None = None) -> Iterator[Tensor]:
    return tasks.find(origin.task).calibration_batches(
        job.upstream["data"],
        origin.preprocessing,
        batch_size=size or job.settings["batch_size"],
        count=count,
        seed=job.settings["seed"],
    )


def _reconstruct(
    job: Job, lite: nn.Module, source: nn.Module, origin: Origin, settings: Surgery
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fit the lite model to its source as far as the settings want it; fields of the report, what was done, and of the
    metrics, on what and how long."""
    wanted = settings.warm_start
    refit = blocks = None
    try:
        if wanted.refit:
            count = max(settings.calibration_batches, math.ceil(REFIT_IMAGES / job.settings["batch_size"]))
            refit = surgery.refit(lite, source, _batches(job, origin, count), statistics=wanted.statistics)
        if steps := wanted.reconstruction_steps:
            held = max(1, HELD // (3 * origin.preprocessing.size**2))  # images
            size = min(AT_ONCE, job.settings["batch_size"], held)
            count = min(steps, held // size)
            with accelerated(lite, source) as where:
                batches = (batch.to(where) for batch in _batches(job, origin, count, size))
                blocks = surgery.reconstruct(lite, source, batches, steps, statistics=wanted.statistics)
    except surgery.SurgeryError as error:
        raise StepError(f"{job.model}: {error}; a recipe can do without: {WITHOUT}") from error
    done = blocks and {"blocks": len(blocks.blocks), "steps": blocks.steps, "images": blocks.images}
    report = {
        "refit": refit and refit.to_json(),
        "reconstruction": blocks and blocks.to_json(),
        "warm_start": {
            "refit": refit is not None and {"layers": len(refit.fitted), "images": refit.images},
            "reconstruction": done or False,
        },
    }
    if blocks is None:
        return report, {}
    dataset = read_summary(job.upstream["data"]).name
    words = f"{dataset} without labels, blocks fitted to the source's in {blocks.steps} steps"
    return report, {"trained_on": words, "seconds": round(blocks.seconds, 1)}


def _lengthened(name: str, lite: nn.Module, source: nn.Module, plan: surgery.Plan, image: Tensor) -> dict[str, Any]:
    """Make the model ready to be trained; which of its weights are longer for that."""
    try:
        return surgery.lengthen(lite, source, plan, (image,)).to_json()
    except surgery.SurgeryError as error:
        raise StepError(f"{name}: {error}") from error


def _chosen(job: Job, source: nn.Module, origin: Origin, batches: Sequence[Tensor]) -> Explanation:
    """What the target asks for. One batch is enough to choose by; the chosen rules are then applied with all."""
    name = job.settings["target_name"]
    deployment = Deployment(
        job.model,
        origin,
        Export.model_validate(job.settings["export"]),
        read_same(name, job.settings["target_sha256"], job.root),
        name,
        job.settings["device"],
        job.settings["left"],
    )
    image = batches[0][:1]
    return choose(source, lambda model: deployment.lint(model, image), deployment.order, (image,), batches[:1])


def _rules(settings: Surgery, explanation: Explanation | None) -> tuple[Literal["default"] | list[str], Sites | None]:
    """The rules to apply and, where they were chosen, their sites."""
    if explanation is not None:
        return list(explanation.rules), explanation.sites
    if settings.rules in ("default", "none"):
        return "default" if settings.rules == "default" else [], None
    return list(settings.rules), None


def _warm_start(wanted: WarmStart) -> surgery.WarmStart:
    return surgery.WarmStart(gates=wanted.gates, norms=wanted.norms, statistics=wanted.statistics)


def _require_expected(model: str, settings: Surgery, report: surgery.Report) -> None:
    if settings.expect == "edits" and not report.is_lite:
        rules = "" if settings.rules == "default" else f"rules: {_as_written(settings.rules)}, "
        raise StepError(
            f"{model}: surgery found nothing to replace; write 'surgery: {{{rules}expect: no_edits}}' in the recipe "
            "and take _lite off its name"
        )
    if settings.expect == "no_edits" and report.is_lite:
        rules = ", ".join(f"{rule} {count}x" for rule, count in report.by_rule().items())
        raise StepError(f"{model}: the recipe expects no edits, surgery made some ({rules}); take 'expect' out")


def _as_written(rules: str | tuple[str, ...]) -> str:
    return rules if isinstance(rules, str) else f"[{', '.join(rules)}]"
