"""Hard-Swish (Howard et al. 2019, https://arxiv.org/abs/1905.02244): x clip(x + 3, 0, 6) / 6.

Exporters before opset 14 write it as x HardSigmoid(x) or spell the clip out. The first node speaks.
"""

from collections.abc import Iterator
from math import isclose

from zoo.graph.view import Graph, Node
from zoo.linting.matching import Anything, Number, call, either, matches
from zoo.targets.operators.parameters import attribute, parameter


def _is_sixth(node: Node) -> bool:
    slope, offset = attribute(node, "alpha"), attribute(node, "beta")
    return isclose(slope or 0, 1 / 6, rel_tol=1e-3) and isclose(offset or 0, 0.5, rel_tol=1e-3)


def _is_to_six(node: Node) -> bool:
    return (parameter(node, "min"), parameter(node, "max")) == (0, 6)


_x = Anything()
_clip = call("Clip", call("Add", _x, Number(3)), where=_is_to_six)
_sixth = either(call("Div", _clip, Number(6)), call("Mul", _clip, Number(1 / 6)))
_product = call("Mul", _x, _clip)
_ROOTS = (
    call("Mul", _x, call("HardSigmoid", _x, where=_is_sixth)),
    call("Mul", _x, _sixth),
    call("Div", _product, Number(6)),
    call("Mul", _product, Number(1 / 6)),
    call("Mul", call("Div", _x, Number(6)), _clip),
    call("Mul", call("Mul", _x, Number(1 / 6)), _clip),
)


def find(graph: Graph) -> Iterator[tuple[Node, ...]]:
    """The two or four nodes of each."""
    return matches(graph, *_ROOTS)
