"""SiLU or Swish (Ramachandran et al. 2017, https://arxiv.org/abs/1710.05941): x sigmoid(x); Sigmoid speaks."""

from collections.abc import Iterator

from zoo.graph.view import Graph, Node
from zoo.linting.matching import Anything, call, matches

_x = Anything()
_ROOT = call("Mul", _x, call("Sigmoid", _x))


def find(graph: Graph) -> Iterator[tuple[Node, ...]]:
    """The two nodes of each."""
    return matches(graph, _ROOT)
