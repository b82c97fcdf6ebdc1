"""What a recipe leaves to the host: errors of the linter that are known, each with the reason why it stays."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from zoo.linting.report import Finding, Report


def reason(finding: Finding, left: Mapping[str, str]) -> str:
    """Why a finding stays; "" of one that no entry names.

    An entry names an operator (``Softmax``), layers by their path (``features.*.attn``), or of the model as a whole the
    limit (``subgraphs``).
    """
    return next((why for key, why in left.items() if _names(key, finding)), "")


def unmatched(report: Report, left: Mapping[str, str]) -> list[str]:
    """Entries that name no error of the report."""
    errors = report.of_severity("error")
    return [key for key in left if not any(_names(key, finding) for finding in errors)]


def _names(key: str, finding: Finding) -> bool:
    if not finding.node:
        return key == finding.limit
    return key == finding.op or (bool(finding.module) and fnmatchcase(finding.module, key))
