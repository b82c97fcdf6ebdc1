"""Channel shuffle (Zhang et al. 2017, https://arxiv.org/abs/1707.01083): groups become the inner axis of the channels.

(N, C, H, W) -> Reshape (N, g, C / g, H, W) -> Transpose (N, C / g, g, H, W) -> Reshape (N, C, H, W); Transpose speaks.
"""

from collections.abc import Iterator

from zoo.graph.view import Graph, Node
from zoo.linting.matching import Anything, call, matches


def _swaps_groups(node: Node) -> bool:
    return list(node.attributes.get("perm", ())) == [0, 2, 1, 3, 4]


_ROOT = call("Reshape", call("Transpose", call("Reshape", Anything()), where=_swaps_groups))


def find(graph: Graph) -> Iterator[tuple[Node, ...]]:
    """The three nodes of each; where shapes are known, the last one is the first one again."""
    for nodes in matches(graph, _ROOT, speaker="Transpose"):
        _, apart, together = nodes
        before, after = apart.input(0).dims, together.outputs[0].dims
        if before is None or after is None or before == after:
            yield nodes
