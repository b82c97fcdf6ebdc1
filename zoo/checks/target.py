"""What a target refuses of a model, as findings of the check."""

from collections.abc import Iterator, Mapping

from zoo.checks import Finding
from zoo.linting import left, report


def findings(found: report.Report, accepted: Mapping[str, str]) -> list[Finding]:
    """Each thing that a layer has against it, once. What the recipe leaves to the host, with its reason, is no error.

    An entry of ``accepted`` that names nothing is one: it says something of the model that is not so.
    """
    unique = dict.fromkeys(_finding(each, found.target, left.reason(each, accepted)) for each in found.findings)
    return [*unique, *_of_entries(found, accepted)]


def _finding(found: report.Finding, target: str, why: str) -> Finding:
    layer = found.module or found.node
    fact = f"{target}: {found.op}: {found.fact}" if found.op else f"{target}: {found.fact}"
    if found.severity != "error":
        return Finding("target", found.severity, layer, fact)
    if why:
        return Finding("target", "warning", layer, fact, f"left to the host: {why}")
    removed = f"rule {found.rule} removes it" if found.rule else "choose another target"
    return Finding("target", "error", layer, fact, f"{removed}, or name it with a reason in the recipe's `left`")


def _of_entries(found: report.Report, accepted: Mapping[str, str]) -> Iterator[Finding]:
    for key in left.unmatched(found, accepted):
        yield Finding("target", "error", "", f"{found.target} refuses no '{key}', which `left` names", "take it out")
