"""The nodes of a graph in one list, those in the bodies of If, Loop and Scan before the node that they belong to."""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx

from zoo.graph.skeleton import bodies


@dataclass(frozen=True)
class Step:
    """A node and where it stands."""

    node: onnx.NodeProto
    within: str  # the node in whose body it is, "" for none

    @property
    def returned(self) -> tuple[str, ...]:
        """What its bodies return."""
        return tuple(value.name for _, body in bodies(self.node) for value in body.output)


def steps(graph: onnx.GraphProto, within: str = "") -> Iterator[Step]:
    """All nodes of a graph whose names are settled; each comes after what it reads."""
    for node in graph.node:
        for _, body in bodies(node):
            yield from steps(body, node.name)
        yield Step(node, within)


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all that are in its nodes."""
    yield graph
    for node in graph.node:
        for _, body in bodies(node):
            yield from graphs(body)
