"""By how much a Resize or Upsample enlarges, however it says so: scales, sizes or nothing but the shapes."""

from collections.abc import Sequence
from typing import Any

from zoo.graph.view import Node, NotKnown, Value
from zoo.targets.operators.parameters import attribute, parameter


def scales(node: Node) -> tuple[float, ...]:
    """The factor of each axis, output by input. Raises NotKnown."""
    given = _constant(node, "scales")
    if given:
        return _spread(node, given, len(given))
    if sizes := _constant(node, "sizes"):
        return _by_sizes(node, sizes)
    before, after = node.input(0).shape, node.outputs[0].shape
    return tuple(_factor(size, old) for size, old in zip(after, before, strict=True))


def _by_sizes(node: Node, sizes: Sequence[int]) -> tuple[float, ...]:
    """Of sizes that must keep the aspect ratio, one factor goes for all axes (ONNX, Resize-18)."""
    shape = node.input(0).shape
    places = attribute(node, "axes") or range(len(shape))
    factors = [_factor(size, shape[place]) for place, size in zip(places, sizes, strict=True)]
    choose = {"not_larger": min, "not_smaller": max}.get(attribute(node, "keep_aspect_ratio_policy") or "stretch")
    return _spread(node, [choose(factors)] * len(factors) if choose else factors, len(shape))


def _factor(size: int, old: int) -> float:
    """By how much an axis grows; one without elements stays as it is, or nothing can be said of it."""
    if old == 0 and size != 0:
        raise NotKnown("the scale of an axis without elements")
    return size / old if old else 1.0


def _spread(node: Node, factors: Sequence[float], rank: int) -> tuple[float, ...]:
    """Factors of all axes, where the node may give those of some."""
    places = attribute(node, "axes")
    if not places:
        return tuple(float(factor) for factor in factors)
    spread = [1.0] * max(rank, _rank(node))
    for place, factor in zip(places, factors, strict=True):
        spread[place] = float(factor)
    return tuple(spread)


def _rank(node: Node) -> int:
    values: list[Value] = [node.input(0), *node.outputs]
    for value in values:
        if value.dims is not None:
            return len(value.dims)
    raise NotKnown(f"the shape of {values[0].name}")


def _constant(node: Node, name: str) -> Any | None:
    """The parameter; None where it is left out, empty or no constant, and the shapes have to tell."""
    if name in node.attributes:
        return node.attributes[name]
    try:
        return parameter(node, name)
    except NotKnown:
        if node.opset < 1:
            raise
        return None
