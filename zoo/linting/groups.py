"""Findings that say the same of many nodes, as one."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from zoo.linting.report import Finding, Report
from zoo.linting.wording import place
from zoo.targets.limit import Severity

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "cost")


@dataclass(frozen=True)
class Group:
    """Findings of one severity, layer, limit and rule, in the order of the graph."""

    severity: Severity
    layer: str  # the operator, and the torch operator where it is another: "Mul (silu)"
    rule: str
    findings: tuple[Finding, ...]

    @property
    def of_nodes(self) -> bool:
        """Whether it is about nodes, not about the model as a whole."""
        return any(finding.node for finding in self.findings)

    @property
    def facts(self) -> tuple[str, ...]:
        """What was found, each once, the commonest first."""
        return tuple(fact for fact, _ in Counter(finding.fact for finding in self.findings).most_common())

    @property
    def places(self) -> tuple[str, ...]:
        """Where, each once."""
        return tuple(dict.fromkeys(place(finding) for finding in self.findings))


def grouped(report: Report) -> tuple[Group, ...]:
    """All findings: errors, warnings, costs; of each those of the whole model first, then the most frequent."""
    torch_ops = {judged.node: judged.torch_op for judged in report.nodes}
    found: dict[tuple[Severity, str, str, str, str], list[Finding]] = {}
    for finding in report.findings:
        layer = _layer(finding.op, torch_ops.get(finding.node, ""))
        fact = "" if finding.node else finding.fact  # what is said of the whole model is said in full
        found.setdefault((finding.severity, layer, finding.limit, finding.rule, fact), []).append(finding)
    groups = (Group(severity, layer, rule, tuple(each)) for (severity, layer, _, rule, _), each in found.items())
    return tuple(sorted(groups, key=_rank))


def _rank(group: Group) -> tuple[int, bool, int]:
    return SEVERITIES.index(group.severity), group.of_nodes, -len(group.findings)


def first_few(items: Iterable[str], most: int) -> str:
    """``a, b, c and 18 more``"""
    listed = tuple(items)
    more = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {more:,} more" if more > 0 else "")


def _layer(op: str, torch_op: str) -> str:
    same = op.replace("_", "").lower() == torch_op.replace("_", "").lower()
    return op if same or not torch_op else f"{op} ({torch_op})"
