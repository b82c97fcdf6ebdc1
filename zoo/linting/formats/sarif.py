"""A report as SARIF 2.1.0, for code scanning. https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html

A rule is a kind of limit, a result a finding. A model file has no lines: the layer is the logical location, and the
region, which GitHub asks for, is the file's first line.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from zoo.linting import wording
from zoo.linting.report import Finding, Report
from zoo.linting.wording import safe
from zoo.targets.limit import Severity

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS: Mapping[Severity, str] = {"error": "error", "warning": "warning", "cost": "note"}
TEXT = 1000  # characters of a message


def write(report: Report) -> str:
    """One run with a result for each finding."""
    rules = tuple(dict.fromkeys(finding.limit for finding in report.findings))
    artifact = {"uri": _uri(report.model), "index": 0}
    run = {
        "tool": {"driver": {"name": "lite-zoo", **_version(), "rules": [_rule(limit, report) for limit in rules]}},
        "automationDetails": {"id": "/".join(["zoo-lint", report.target, *filter(None, [report.device]), ""])},
        "artifacts": [{"location": {"uri": artifact["uri"]}, "roles": ["analysisTarget"]}],
        "results": [_result(finding, rules.index(finding.limit), artifact) for finding in report.findings],
        "properties": {
            "target": report.target,
            "device": report.device,
            "clean": report.clean,
            "summary": report.to_json()["summary"],
            "unchecked": list(report.unchecked),
        },
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, allow_nan=False) + "\n"


def _version() -> dict[str, str]:
    try:
        return {"version": version("lite-zoo")}
    except PackageNotFoundError:  # from a checkout that is not installed
        return {}


def _rule(limit: str, report: Report) -> dict[str, Any]:
    findings = [finding for finding in report.findings if finding.limit == limit]
    ops = sorted({safe(finding.op) for finding in findings if finding.op})
    about = f"Limit {limit} of {wording.target(report)}"
    return {
        "id": limit,
        "name": "".join(word.capitalize() for word in limit.split("_")),
        "shortDescription": {"text": f"{about}."},
        "fullDescription": {"text": f"{about}, broken by {', '.join(ops) or wording.WHOLE}."},
        "defaultConfiguration": {"level": LEVELS[findings[0].severity]},
    }


def _result(finding: Finding, rule: int, artifact: Mapping[str, Any]) -> dict[str, Any]:
    cure = f"; rule {finding.rule} removes it" if finding.rule else ""
    what = f"{safe(finding.op)} at {safe(wording.place(finding))}" if finding.op else wording.WHOLE
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": dict(artifact), "region": {"startLine": 1}}}
    if logical := _logical_locations(finding):
        location["logicalLocations"] = logical
    return {
        "ruleId": finding.limit,
        "ruleIndex": rule,
        "level": LEVELS[finding.severity],
        "message": {"text": safe(f"{what}: {finding.fact}{cure}", TEXT)},
        "locations": [location],
        "partialFingerprints": {"primaryLocationLineHash": _fingerprint(finding)},
        "properties": asdict(finding),
    }


def _logical_locations(finding: Finding) -> list[dict[str, str]]:
    """The torch layer and the node, where they are known."""
    named = (("module", finding.module), ("object", finding.node))
    return [
        {"name": safe(name.rpartition(".")[2] or name), "fullyQualifiedName": safe(name, TEXT), "kind": kind}
        for kind, name in named
        if name
    ]


def _fingerprint(finding: Finding) -> str:
    """The same finding in another run of the same model: code scanning takes results apart by it."""
    parts = (finding.limit, finding.node, finding.op, finding.module, finding.fact)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16] + ":1"


def _uri(model: str) -> str:
    """A relative path stays one, so that it is found in the repository; an absolute one is a file URI."""
    path = Path(model)
    quoted = quote(os.fsencode(path.as_posix()))  # bytes: a file's name need not be text
    return f"file://{quoted}" if path.is_absolute() else quoted
