"""Check: run the initial lite model every way that matters, and lint it against its target, before it is trained."""

from dataclasses import asdict

import surgery
from zoo import tasks
from zoo.atomic import write_json
from zoo.checks import Finding
from zoo.checks.running import check_running
from zoo.checks.target import lint
from zoo.config import Target
from zoo.errors import CheckFailed
from zoo.job import Job, Result
from zoo.origin import Origin
from zoo.rebuild import lite_model, load_weights, read_plan, source_model


def run(job: Job) -> Result:
    """Writes findings.json. Raises CheckFailed naming the first layer at fault and the number of other errors."""
    baseline, operated = job.upstream["baseline"], job.upstream["surgery"]
    origin = Origin.model_validate_json((baseline / "source.json").read_text())
    source = source_model(origin)
    load_weights(source, baseline / "source.safetensors")
    plan = read_plan(operated / "plan.json")
    lite = lite_model(origin, plan)
    load_weights(lite, operated / "initial.safetensors")
    task = tasks.find(origin.task)
    images = task.validation_sample(job.upstream["data"], origin.preprocessing, 4)
    same_output = all(edit.promise == surgery.Promise.SAME_OUTPUT for edit in plan.edits)
    network, host = task.on_device(lite)
    operators = [found for found in surgery.operators(network, (images[:1],)) if found.module not in host]
    target = Target.model_validate(job.settings["target"])
    findings = [
        *check_running(source, lite, images, same_output),
        *lint(operators, target, job.settings["target_name"]),
    ]
    errors = [finding for finding in findings if finding.severity == "error"]
    report = {"findings": [asdict(f) for f in findings], "operators": sorted({o.name for o in operators})}
    write_json(job.folder / "findings.json", report)
    if errors:
        raise CheckFailed(_summary(job, errors))
    return Result((job.folder / "findings.json",), {"operators": len(operators), "warnings": len(findings)})


def _summary(job: Job, errors: list[Finding]) -> str:
    more = f" (and {len(errors) - 1} more in {job.folder / 'findings.json'})" if len(errors) > 1 else ""
    return f"{job.model}: {errors[0]}{more}"
