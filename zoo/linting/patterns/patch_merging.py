"""Patch merging (Liu et al. 2021, https://arxiv.org/abs/2103.14030): each 2 x 2 patch becomes one, four times as deep.

Strided Slices take the four phases of two axes, one axis at a time or both at once; Concat joins them on the last axis,
where the channels are, and speaks. Slices that two phases share are within the match. With the channels elsewhere it is
another operation: the stem known as Focus.
"""

from collections.abc import Iterator

from zoo.graph.view import NOT_TOLD, Graph, Node, Value
from zoo.linting.matching import ONNX, is_closed, spoken_for
from zoo.targets.operators.axes import axes
from zoo.targets.operators.parameters import parameter

_NO_END = 2**31 - 1  # ends from here on mean the end, whatever the size
_PHASES = {(0, 0), (0, 1), (1, 0), (1, 1)}


def find(graph: Graph) -> Iterator[tuple[Node, ...]]:
    """The five to nine nodes of each."""
    outputs = {value.name for value in graph.outputs}
    for node in graph.nodes:
        if node.op == "Concat" and node.domain in ONNX and len(node.variables) == 4 == len(node.inputs):
            slices = _slices(graph, node)
            if slices and is_closed(graph, [*slices, node], node, outputs):
                yield spoken_for([*slices, node], "Concat")


def _slices(graph: Graph, concat: Node) -> list[Node]:
    """The Slices that take four phases of one value; none where the Concat joins anything else."""
    try:
        if axes(concat) != (-1,):
            return []
        cuts = [_cut(graph, value) for value in concat.variables]
    except NOT_TOLD:
        return []
    sources = {name for name, _, _ in cuts}
    cut_axes = {tuple(sorted(starts)) for _, starts, _ in cuts}
    if len(sources) != 1 or len(cut_axes) != 1:
        return []
    both = next(iter(cut_axes))
    phases = {tuple(starts[axis] for axis in both) for _, starts, _ in cuts}
    if len(both) != 2 or -1 in both or phases != _PHASES:
        return []
    return list({id(node): node for _, _, nodes in cuts for node in nodes}.values())


def _cut(graph: Graph, value: Value) -> tuple[str, dict[int, int], list[Node]]:
    """What is cut, where the phases start by axis, and the Slices of step 2 that cut it, in order. Raises NotKnown."""
    starts: dict[int, int] = {}
    nodes: list[Node] = []
    node = graph.producers.get(value.name)
    while node is not None and node.op == "Slice" and node.domain in ONNX and len(starts) < 2:
        phase = _phase(node)
        if phase is None or phase.keys() & starts.keys():
            break
        starts |= phase
        nodes.insert(0, node)
        value = node.input(0)
        node = graph.producers.get(value.name)
    return value.name, starts, nodes


def _phase(node: Node) -> dict[int, int] | None:
    """Where a Slice starts, by axis from the end, of those that it takes each second element of to their end; None of
    one that does anything else. Raises NotKnown.
    """
    starts, ends, steps = (parameter(node, name) for name in ("starts", "ends", "steps"))
    if starts is None or ends is None:
        return None
    value, found = node.input(0), {}
    places = parameter(node, "axes") or range(len(starts))
    for place, start, end, step in zip(places, starts, ends, steps or [1] * len(starts), strict=True):
        size = value.dims[place] if value.dims else None
        if end < (size if isinstance(size, int) else _NO_END) or (start, step) not in ((0, 1), (0, 2), (1, 2)):
            return None
        if step == 2:
            found[place if place < 0 else place - value.rank] = start
    return found
