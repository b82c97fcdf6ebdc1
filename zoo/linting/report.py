"""What the linter finds."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from zoo.targets.limit import Severity


class Verdict(StrEnum):
    """What becomes of a node on the target."""

    ACCELERATED = "accelerated"
    FUSED = "fused"  # as part of a pattern that the device knows as one layer
    FREE = "free"  # a constant, computed once before the first image
    HOST = "host"  # behind the boundary where the host takes over by design, such as a detector's decoding
    REJECTED = "rejected"  # runs on the host and breaks the accelerated graph
    UNKNOWN = "unknown"  # the file does not tell what decides it


@dataclass(frozen=True)
class Finding:
    """One thing that the target does not like. ``rule`` is the surgery rule that would remove it, "" for none."""

    severity: Severity
    node: str  # "" for the model as a whole
    op: str
    module: str  # dotted path of the torch layer, "" where it is not known
    limit: str  # kind of the limit, "operator" where the operator itself is not accelerated
    fact: str  # the limit and the value found
    rule: str = ""


@dataclass(frozen=True)
class Judged:
    """A node and its verdict. ``subgraph`` numbers the accelerated parts from 0; None for what is outside of them."""

    node: str
    op: str
    module: str
    torch_op: str
    verdict: Verdict
    macs: int | None = None
    subgraph: int | None = None


@dataclass(frozen=True)
class Subgraph:
    """A part of the model that the device runs in one go."""

    nodes: int
    macs: int


@dataclass(frozen=True)
class Summary:
    """Shares are of the nodes that run on the target: without constants and without what is the host's by design."""

    nodes: int
    accelerated_nodes: int
    macs: int
    accelerated_macs: int
    subgraphs: tuple[Subgraph, ...]  # largest by MACs, then nodes, first
    max_subgraphs: int | None  # that the device's runtime takes

    @property
    def node_share(self) -> float:
        """The share of nodes that are accelerated; 1 of none."""
        return self.accelerated_nodes / self.nodes if self.nodes else 1.0

    @property
    def mac_share(self) -> float:
        """The share of multiply-accumulates that are accelerated; 1 of none."""
        return self.accelerated_macs / self.macs if self.macs else 1.0


@dataclass(frozen=True)
class Report:
    """All that the linter says about one model on one target."""

    model: str  # file or release, as the user called it
    target: str
    device: str  # "" for all of the target's devices: what any of them refuses is refused
    nodes: tuple[Judged, ...]
    findings: tuple[Finding, ...]
    summary: Summary
    unchecked: tuple[str, ...] = ()  # limits that a float model cannot be checked for, such as of signedness

    def of_severity(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    @property
    def unknown_nodes(self) -> int:
        """How many nodes there are whose verdict is open."""
        return sum(judged.verdict is Verdict.UNKNOWN for judged in self.nodes)

    @property
    def clean(self) -> bool:
        """Whether nothing is refused and nothing is open: no error is left, and every node's verdict is known."""
        return not self.of_severity("error") and not self.unknown_nodes

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        summary, written = self.summary, asdict(self)
        figures = {
            "node_share": summary.node_share,
            "mac_share": summary.mac_share,
            "unknown_nodes": self.unknown_nodes,
        }
        return written | {"clean": self.clean, "summary": written["summary"] | figures}
