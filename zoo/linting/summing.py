"""A report's figures."""

from collections.abc import Iterable

from zoo.graph.view import Graph, Node
from zoo.linting.judging import Judgements
from zoo.linting.report import Judged, Subgraph, Summary, Verdict
from zoo.linting.subgraphs import subgraphs
from zoo.targets.target import Target

ON_TARGET = frozenset({Verdict.ACCELERATED, Verdict.FUSED})
NOT_ON_TARGET = frozenset({Verdict.FREE, Verdict.HOST})


def judged_nodes(graph: Graph, judged: Judgements) -> tuple[Judged, ...]:
    """The graph's nodes as a report tells them."""
    verdicts = {id(node): judged[id(node)].verdict for node in graph.nodes}
    accelerated = {each for each, verdict in verdicts.items() if verdict in ON_TARGET}
    free = {each for each, verdict in verdicts.items() if verdict is Verdict.FREE}
    parts = subgraphs(graph, accelerated, free)
    return tuple(_told(node, verdicts[id(node)], parts.get(id(node))) for node in graph.nodes)


def summarised(nodes: Iterable[Judged], target: Target) -> Summary:
    """Shares and subgraphs; nodes whose verdict is open, and multiply-accumulates that are not known, count as none."""
    running = [node for node in nodes if node.verdict not in NOT_ON_TARGET]
    accelerated = [node for node in running if node.verdict in ON_TARGET]
    parts: dict[int, list[int]] = {}
    for node in accelerated:
        parts.setdefault(-1 if node.subgraph is None else node.subgraph, []).append(node.macs or 0)
    found = (Subgraph(nodes=len(macs), macs=sum(macs)) for macs in parts.values())
    return Summary(
        nodes=len(running),
        accelerated_nodes=len(accelerated),
        macs=sum(node.macs or 0 for node in running),
        accelerated_macs=sum(node.macs or 0 for node in accelerated),
        subgraphs=tuple(sorted(found, key=lambda part: (-part.macs, -part.nodes))),
        max_subgraphs=target.runtime.max_subgraphs,
    )


def _told(node: Node, verdict: Verdict, part: int | None) -> Judged:
    return Judged(node.name, node.op, node.module or "", node.torch_op or "", verdict, node.macs, part)
