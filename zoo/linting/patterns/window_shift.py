"""The cyclic shift of windows (Liu et al. 2021, https://arxiv.org/abs/2103.14030), as torch.roll is exported.

Concat(x[k:], x[:k]) along one axis, which is the one that is cut; Concat speaks.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from zoo.graph.view import Graph, Node
from zoo.linting.matching import Anything, call, holds, matches

_x = Anything()
_ROOT = call("Concat", call("Slice", _x), call("Slice", _x))


def find(graph: Graph) -> Iterator[tuple[Node, ...]]:
    """The three nodes of each: as much comes out as goes in."""
    for nodes in matches(graph, _ROOT, speaker="Concat"):
        concat, *slices = nodes
        if holds(partial(_rolls, concat, slices)):
            yield nodes


def _rolls(concat: Node, slices: Sequence[Node]) -> bool:
    source, shifted = slices[0].input(0).shape, concat.outputs[0].shape
    parts = [node.outputs[0].shape for node in slices]
    axis = concat.attributes["axis"] % len(source)
    rest = [shape[:axis] + shape[axis + 1 :] for shape in (source, *parts)]
    return source == shifted and rest.count(rest[0]) == len(rest)
