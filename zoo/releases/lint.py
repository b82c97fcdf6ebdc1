"""What a manifest holds of the linter's report: shares, what is left and why, and which targets refuse nothing."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from zoo.config import Config, Positive
from zoo.linting import left
from zoo.linting.report import Finding, Report

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Left(Config):
    """One thing that the target refuses: the device's host does it."""

    op: str  # ONNX operator or pattern; "" of the model as a whole
    fact: str
    nodes: Count
    module: str  # path of the first layer, "" where it is not known
    why: str  # the recipe's reason; "" where it gives none


class OnTarget(Config):
    """How much of the model a target accelerates, on whichever of its devices."""

    clean: bool  # it refuses nothing, and nothing was left open
    node_share: Share
    mac_share: Share
    subgraphs: Count


class Lint(Config):
    """The ONNX file as released, on the target and device that it is for; the whole report is in lint.json."""

    device: str = ""  # "" for all of the target's
    clean: bool  # as OnTarget has it
    nodes: Count
    accelerated_nodes: Count
    macs: Count
    accelerated_macs: Count
    subgraphs: Count
    max_subgraphs: Positive | None  # that the device's runtime takes
    warnings: Count
    costs: Count
    left: Annotated[tuple[Left, ...], Field(strict=False)] = ()
    targets: dict[str, OnTarget]  # all that were known at the time

    @property
    def clean_on(self) -> tuple[str, ...]:
        """The targets that refuse nothing of the model, in order."""
        return tuple(name for name, found in sorted(self.targets.items()) if found.clean)


def fields(report: Report, on_targets: Mapping[str, Report], reasons: Mapping[str, str]) -> dict[str, Any]:
    """A Lint as JSON values; ``reasons`` are the recipe's for what is left."""
    summary = report.summary
    counts = Counter(finding.severity for finding in report.findings)
    return {
        "device": report.device,
        "clean": report.clean,
        "nodes": summary.nodes,
        "accelerated_nodes": summary.accelerated_nodes,
        "macs": summary.macs,
        "accelerated_macs": summary.accelerated_macs,
        "subgraphs": len(summary.subgraphs),
        "max_subgraphs": summary.max_subgraphs,
        "warnings": counts["warning"],
        "costs": counts["cost"],
        "left": _left(report, reasons),
        "targets": {name: _on_target(each) for name, each in sorted(on_targets.items())},
    }


def essence(lint: Mapping[str, Any]) -> dict[str, Any]:
    """What a new version is worth making for: not another wording, nor a target that refuses the model as before."""
    return {
        "left": lint["left"],
        "targets": sorted(name for name, found in lint["targets"].items() if found["clean"]),
    }


def _left(report: Report, reasons: Mapping[str, str]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in report.of_severity("error"):
        groups.setdefault((finding.op, finding.fact, left.reason(finding, reasons)), []).append(finding)
    return [
        {"op": op, "fact": fact, "nodes": len({each.node for each in found}), "module": found[0].module, "why": why}
        for (op, fact, why), found in groups.items()
    ]


def _on_target(report: Report) -> dict[str, Any]:
    return {
        "clean": report.clean,
        "node_share": report.summary.node_share,
        "mac_share": report.summary.mac_share,
        "subgraphs": len(report.summary.subgraphs),
    }
