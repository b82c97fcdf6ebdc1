"""GELU (Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415): x / 2 (1 + erf(x / sqrt(2))); Erf speaks."""

from collections.abc import Iterator
from math import sqrt

from zoo.graph.view import Graph, Node
from zoo.linting.matching import Anything, Number, call, either, matches

_x = Anything()
_erf = call("Erf", either(call("Div", _x, Number(sqrt(2))), call("Mul", _x, Number(1 / sqrt(2)))))
_sum = call("Add", _erf, Number(1))
_ROOTS = (
    call("Mul", call("Mul", _x, _sum), Number(0.5)),
    call("Mul", call("Mul", _x, Number(0.5)), _sum),
    call("Mul", _x, call("Mul", _sum, Number(0.5))),
    call("Div", call("Mul", _x, _sum), Number(2)),
    call("Mul", call("Div", _x, Number(2)), _sum),
)


def find(graph: Graph) -> Iterator[tuple[Node, ...]]:
    """The five nodes of each."""
    return matches(graph, *_ROOTS, speaker="Erf")
