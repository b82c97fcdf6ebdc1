"""Where nodes stand in a model: at its ends, or behind the boundary where the host takes over."""

from collections.abc import Collection

from zoo.errors import UnknownName, did_you_mean
from zoo.graph.view import Graph, Node


def host_nodes(graph: Graph, boundary: Collection[str], model: str) -> frozenset[int]:
    """Ids of the nodes that run behind the boundary: all that they read of the model's input comes through its values.

    Raises UnknownName where the graph makes no value of a boundary's name.
    """
    made = {value.name for value in graph.inputs} | set(graph.producers)
    for name in sorted(set(boundary) - made):
        cure = did_you_mean(name, made)
        raise UnknownName(f"{model}: no value {name!r} for the host to take over from" + (f"; {cure}" if cure else ""))
    behind = set(boundary)
    found = set()
    for node in graph.nodes:
        if node.variables and all(value.name in behind for value in node.variables):
            found.add(id(node))
            behind.update(value.name for value in node.outputs)
    return frozenset(found)


def end_nodes(graph: Graph, boundary: Collection[str]) -> frozenset[int]:
    """Ids of the nodes at the ends: they read an input of the model themselves, or make an output or a boundary value.

    A node with another one between it and the model's input or output is not at an end, whatever the other one does.
    """
    first = {value.name for value in graph.inputs}
    last = {value.name for value in graph.outputs} | set(boundary)
    return frozenset(id(node) for node in graph.nodes if _touches(node, first, last))


def _touches(node: Node, first: set[str], last: set[str]) -> bool:
    return any(value.name in first for value in node.variables) or any(value.name in last for value in node.outputs)
