"""The cyclic shift of windows (Liu et al. 2021, https://arxiv.org/abs/2103.14030), as torch.roll is exported.

Concat(x[k:], x[:k]) along one axis, which is the one that is cut; Concat speaks.
"""

from collections.abc import Iterator

from zoo.graph.view import Graph, Node, NotKnown
from zoo.linting.matching import Anything, call, matches

_x = Anything()
_ROOT = call("Concat", call("Slice", _x), call("Slice", _x))


def find(graph: Graph) -> Iterator[tuple[Node, ...]]:
    """The three nodes of each: as much comes out as goes in."""
    for nodes in matches(graph, _ROOT, speaker="Concat"):
        concat, *slices = nodes
        try:
            source, shifted = slices[0].input(0).shape, concat.outputs[0].shape
            parts = [node.outputs[0].shape for node in slices]
        except NotKnown:
            continue
        axis = concat.attributes["axis"] % len(source)
        rest = [shape[:axis] + shape[axis + 1 :] for shape in (source, *parts)]
        if source == shifted and rest.count(rest[0]) == len(rest):
            yield nodes
