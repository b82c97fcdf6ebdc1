"""Each node's verdict on a target, and what it is for."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from zoo.graph.view import Graph, Node
from zoo.linting.complaints import Complaint, about_node, about_pattern, accelerating
from zoo.linting.places import end_nodes, host_nodes
from zoo.linting.recognising import Recognised, costly, layers
from zoo.linting.report import Verdict
from zoo.targets.target import Target

Judgements = Mapping[int, "Judgement"]  # by the node's id


@dataclass(frozen=True)
class Judgement:
    """A verdict and all that is said of the node; what is said of a pattern stands with the node that speaks for it."""

    verdict: Verdict
    complaints: tuple[Complaint, ...] = ()


def judge(graph: Graph, target: Target, devices: Collection[str], boundary: Collection[str], model: str) -> Judgements:
    """Every node's judgement.

    A pattern that the target lists without a cost is judged as one layer on the devices that know it: all its nodes
    share what is said of it. What stands in the body of an If, Loop or Scan is refused with it, nothing more being said
    of it. Raises UnknownName where the boundary is none.
    """
    judging = _Judging(target, frozenset(devices), end_nodes(graph, boundary))
    host = host_nodes(graph, boundary, model)
    judged = {id(node): verdict for node in graph.nodes if (verdict := _without_a_look(node, host)) is not None}
    apart = frozenset(judged)
    for match in layers(graph, target, judging.devices, apart):
        judged |= judging.as_layer(match)
    judged |= {id(node): judging.alone(node) for node in graph.nodes if id(node) not in judged}
    for match in costly(graph, target):
        if all(judged[id(node)].verdict is Verdict.ACCELERATED for node in match.nodes):
            speaker = id(match.nodes[0])
            judged[speaker] = _judgement((*judged[speaker].complaints, *judging.about(match)))
    return judged


def _without_a_look(node: Node, host: Collection[int]) -> Judgement | None:
    """Of constants, of what is behind the boundary, and of bodies, which run where their If or Loop does."""
    if node.folded:
        return Judgement(Verdict.FREE)
    if id(node) in host:
        return Judgement(Verdict.HOST)
    return Judgement(Verdict.REJECTED) if node.within else None


@dataclass(frozen=True)
class _Judging:
    target: Target
    devices: frozenset[str]
    ends: frozenset[int]

    def alone(self, node: Node) -> Judgement:
        """A node by itself."""
        return _judgement(about_node(node, self.target, id(node) in self.ends, self.devices))

    def about(self, match: Recognised) -> tuple[Complaint, ...]:
        """What there is against a match where it is known as one layer."""
        known = accelerating(match.pattern, self.target, self.devices)
        at_end = not self.ends.isdisjoint(map(id, match.nodes))
        return tuple(about_pattern(match.nodes, match.pattern, self.target, at_end, known)) if known else ()

    def as_layer(self, match: Recognised) -> dict[int, Judgement]:
        """The nodes of a match, which also run one by one on the devices that do not know it."""
        shared = self.about(match)
        elsewhere = self.devices - accelerating(match.pattern, self.target, self.devices)
        judged = {}
        for node in match.nodes:
            alone = tuple(about_node(node, self.target, id(node) in self.ends, elsewhere)) if elsewhere else ()
            together = _judgement((*shared, *alone), Verdict.ACCELERATED if elsewhere else Verdict.FUSED)
            said = together.complaints if node is match.nodes[0] else alone
            judged[id(node)] = Judgement(together.verdict, said)
        return judged


def _judgement(complaints: Iterable[Complaint], otherwise: Verdict = Verdict.ACCELERATED) -> Judgement:
    said = tuple(complaints)
    deciding = [complaint for complaint in said if complaint.severity == "error"]
    if any(not complaint.open for complaint in deciding):
        return Judgement(Verdict.REJECTED, said)
    return Judgement(Verdict.UNKNOWN if deciding else otherwise, said)
