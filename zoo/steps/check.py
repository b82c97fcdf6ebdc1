"""Check: run the initial lite model every way that matters, and lint it as it will be exported, before it is trained.

Leaves findings.json and lint.json, all that the linter says.
"""

from dataclasses import asdict
from typing import TYPE_CHECKING

import surgery
from zoo import tasks
from zoo.atomic import write_json
from zoo.checks import Finding
from zoo.checks.running import check_running
from zoo.checks.target import findings
from zoo.choosing.deployment import Deployment
from zoo.errors import CheckFailed
from zoo.job import Job, Result
from zoo.linting.report import Report
from zoo.origin import Origin
from zoo.rebuild import lite_model, read_plan
from zoo.recipe import Export
from zoo.source_model import load_weights, source_model
from zoo.targets.identity import read_same

if TYPE_CHECKING:
    from torch import Tensor, nn


def run(job: Job) -> Result:
    """Raises CheckFailed naming the first layer at fault and the number of other errors."""
    baseline, operated = job.upstream["baseline"], job.upstream["surgery"]
    origin = Origin.model_validate_json((baseline / "source.json").read_text())
    source = source_model(origin)
    load_weights(source, baseline / "source.safetensors")
    plan = read_plan(operated / "plan.json")
    lite = lite_model(origin, plan)
    load_weights(lite, operated / "initial.safetensors")
    images = tasks.find(origin.task).validation_sample(job.upstream["data"], origin.preprocessing, 4)
    same_output = all(edit.promise == surgery.Promise.SAME_OUTPUT for edit in plan.edits)
    running = check_running(source, lite, images, same_output)
    if errors := _errors(running):
        write_json(job.folder / "findings.json", {"findings": [asdict(finding) for finding in running]})
        raise CheckFailed(_summary(job, errors))  # what does not run cannot be exported
    report = _lint(job, lite, origin, images[:1])
    found = [*running, *findings(report, job.settings["left"])]
    write_json(job.folder / "findings.json", {"findings": [asdict(finding) for finding in found]})
    write_json(job.folder / "lint.json", report.to_json())
    if errors := _errors(found):
        raise CheckFailed(_summary(job, errors))
    figures = {
        "nodes": f"{report.summary.node_share * 100:.1f} %",
        "macs": f"{report.summary.mac_share * 100:.1f} %",
        "subgraphs": len(report.summary.subgraphs),
        "warnings": sum(finding.severity == "warning" for finding in found),
    }
    return Result((job.folder / "findings.json", job.folder / "lint.json"), figures)


def _lint(job: Job, lite: "nn.Module", origin: Origin, image: "Tensor") -> Report:
    name = job.settings["target_name"]
    target = read_same(name, job.settings["target_sha256"], job.root)
    export = Export.model_validate(job.settings["export"])
    return Deployment(job.model, origin, export, target, name, job.settings["device"]).report(lite, image)


def _errors(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity == "error"]


def _summary(job: Job, errors: list[Finding]) -> str:
    more = f" (and {len(errors) - 1} more in {job.folder / 'findings.json'})" if len(errors) > 1 else ""
    return f"{job.model}: {errors[0]}{more}"
