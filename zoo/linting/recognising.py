"""The patterns that a target lists, where they stand in a graph."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module

from zoo.graph.view import Graph, Node
from zoo.linting.complaints import accelerating
from zoo.targets.target import Target


@dataclass(frozen=True)
class Recognised:
    """A match of a pattern. Its first node speaks for it."""

    pattern: str
    nodes: tuple[Node, ...]


def layers(graph: Graph, target: Target, devices: frozenset[str], apart: frozenset[int]) -> tuple[Recognised, ...]:
    """Matches that a device runs as one layer; a node is in one of them, the largest. None has a node of ``apart``.

    A pattern with a ``cost`` is no layer of the device's: see ``costly``.
    """
    names = [name for name, each in target.patterns.items() if not each.cost and accelerating(name, target, devices)]
    found = patterns_in(graph, names)
    taken = set(apart)
    kept = []
    for match in sorted(found, key=lambda match: -len(match.nodes)):
        ids = set(map(id, match.nodes))
        if taken.isdisjoint(ids):
            taken |= ids
            kept.append(match)
    return tuple(kept)


def costly(graph: Graph, target: Target) -> Iterator[Recognised]:
    """Matches whose nodes a device runs one by one and at a cost, where it does: such as SiLU as Sigmoid and Mul."""
    return patterns_in(graph, [name for name, each in target.patterns.items() if each.cost])


def patterns_in(graph: Graph, names: Iterable[str]) -> Iterator[Recognised]:
    """All matches of some patterns, whatever a target lists."""
    for name in names:
        for nodes in import_module(f"zoo.linting.patterns.{name}").find(graph):
            yield Recognised(name, nodes)
