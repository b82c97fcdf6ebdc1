"""Scaled dot-product attention (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762): softmax(q k / scale + mask) v.

Scale and mask may be missing; a mask may be added in another shape, between two Reshapes, as shifted windows do.
Softmax speaks. A scale on q or k before the product is a Mul of its own and not part of the match.
"""

from collections.abc import Iterator

from zoo.graph.view import Graph, Node
from zoo.linting.matching import Anything, Constant, call, either, matches

_scores = call("MatMul", Anything(), Anything())
_scaled = either(call("Div", _scores, Constant()), call("Mul", _scores, Constant()), _scores)
_masked = either(call("Add", _scaled, Anything()), _scaled)
_shifted = either(call("Reshape", call("Add", call("Reshape", _masked), Anything())), _masked)
_ROOT = call("MatMul", call("Softmax", _shifted), Anything())


def find(graph: Graph) -> Iterator[tuple[Node, ...]]:
    """The three to eight nodes of each."""
    return matches(graph, _ROOT, speaker="Softmax")
