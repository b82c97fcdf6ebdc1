"""Layer normalisation (Ba et al. 2016, https://arxiv.org/abs/1607.06450) spelt out, as exporters before opset 17 do.

    centred = x - mean(x);  centred / sqrt(mean(centred ** 2) + eps) [* weight [+ bias]]

The first ReduceMean speaks. The LayerNormalization operator of opset 17 is an operator of its own and no pattern.
"""

from collections.abc import Iterator

from zoo.graph.view import Graph, Node
from zoo.linting.matching import Anything, Constant, Number, call, matches
from zoo.targets.operators.axes import axes
from zoo.targets.operators.parameters import attribute


def _keeps_known_axes(node: Node) -> bool:
    return bool(axes(node)) and attribute(node, "keepdims") == 1


_x = Anything()
_centred = call("Sub", _x, call("ReduceMean", _x, where=_keeps_known_axes))
_variance = call("ReduceMean", call("Pow", _centred, Number(2)), where=_keeps_known_axes)
_normal = call("Div", _centred, call("Sqrt", call("Add", _variance, Constant())))
_scaled = call("Mul", _normal, Constant())
_shifted = call("Add", _scaled, Constant())


def find(graph: Graph) -> Iterator[tuple[Node, ...]]:
    """The seven to nine nodes of each; both means are over the same axes."""
    for nodes in matches(graph, _shifted, _scaled, _normal, speaker="ReduceMean"):
        one, other = (node for node in nodes if node.op == "ReduceMean")
        if axes(one) == axes(other):
            yield nodes
