"""Surgery: pick and apply rules, start what they replaced from measured values, evaluate before any training."""

from typing import Literal

import surgery
from zoo import tasks
from zoo.atomic import write_json
from zoo.errors import StepError
from zoo.job import Job, Result
from zoo.origin import Origin
from zoo.rebuild import load_weights, save_weights, source_model
from zoo.recipe import Surgery


def run(job: Job) -> Result:
    """Writes plan.json, report.json, initial.safetensors and metrics.json.

    Raises StepError where surgery fails, finds nothing though the recipe expects edits, or the reverse.
    """
    settings = Surgery.model_validate(job.settings["surgery"])
    origin = Origin.model_validate_json((job.upstream["baseline"] / "source.json").read_text())
    source = source_model(origin)
    load_weights(source, job.upstream["baseline"] / "source.safetensors")
    task = tasks.find(origin.task)
    batches = list(
        task.calibration_batches(
            job.upstream["data"],
            origin.preprocessing,
            batch_size=job.settings["batch_size"],
            count=settings.calibration_batches,
            seed=job.settings["seed"],
        )
    )
    rules: Literal["default"] | list[str] = "default"
    if settings.rules != "default":
        rules = [] if settings.rules == "none" else list(settings.rules)
    try:
        lite, report = surgery.lite(source, rules, example_inputs=(batches[0][:1],), calibration=batches)
    except surgery.SurgeryError as error:
        raise StepError(f"{job.model}: surgery: {error}") from error
    _require_expected(job.model, settings, report)
    write_json(job.folder / "plan.json", report.plan.to_json())
    write_json(job.folder / "report.json", report.to_json())
    save_weights(lite, job.folder / "initial.safetensors")
    metrics = task.evaluate(lite.eval(), job.upstream["data"], origin.preprocessing)
    write_json(job.folder / "metrics.json", metrics)
    names = ("plan.json", "report.json", "initial.safetensors", "metrics.json")
    summary = {"edits": len(report.edits), "refusals": len(report.refusals), task.METRIC: metrics[task.METRIC]}
    return Result(tuple(job.folder / name for name in names), summary)


def _require_expected(model: str, settings: Surgery, report: surgery.Report) -> None:
    if settings.expect == "edits" and not report.is_lite:
        raise StepError(
            f"{model}: surgery found nothing to replace; write 'surgery: {{expect: no_edits}}' in the recipe "
            "and take _lite off its name"
        )
    if settings.expect == "no_edits" and report.is_lite:
        rules = ", ".join(f"{rule} {count}x" for rule, count in report.by_rule().items())
        raise StepError(f"{model}: the recipe expects no edits, surgery made some ({rules}); take 'expect' out")
