"""The axes that a node works along, counted from the end, and the names that devices give them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from zoo.graph.view import Node, NotKnown, Value
from zoo.targets.operators.parameters import attribute, opset, parameter
from zoo.targets.operators.scales import scales

AxisName = Literal["width", "height", "channel", "batch"]
FROM_END: Mapping[str, int] = {"width": -1, "height": -2, "channel": -3}
BATCH_RANK = 4  # a device pads shapes in front: the first axis of fewer is no batch to it


def is_named(axis: int, name: AxisName, rank: Callable[[], int]) -> bool:
    """Whether an axis, counted from the end, is the named one; the batch is the first of four axes or more.

    Asks for the rank, which may raise NotKnown, only where it decides.
    """
    if name != "batch":
        return axis == FROM_END[name]
    return axis <= -BATCH_RANK and axis == -rank()


def name_of(axis: int) -> str:
    """An axis, counted from the end, in words."""
    return next((name for name, place in FROM_END.items() if place == axis), f"axis {axis}")


def size_along(value: Value, name: AxisName) -> int:
    """The size of a named dimension; 1 where the value has too few to have it. Raises NotKnown."""
    place = -value.rank if name == "batch" else FROM_END[name]
    if value.rank < (BATCH_RANK if name == "batch" else -place):
        return 1
    size = (value.dims or ())[place]
    if not isinstance(size, int):
        raise NotKnown(f"the {name} size of {value.name}")
    return size


def is_flat(value: Value) -> bool:
    """Whether all dimensions but the last are 1: it has been flattened. Raises NotKnown."""
    front = (None,) if value.dims is None else value.dims[:-1]
    if any(isinstance(size, int) and size > 1 for size in front):
        return False
    if not all(isinstance(size, int) for size in front):
        raise NotKnown(f"the shape of {value.name}")
    return True


def axes(node: Node) -> tuple[int, ...]:
    """The axes that a node works along, from the end and in ascending order: -1 is the last.

    Of Slice those that it narrows, of Pad those that it pads, of a resize those that it scales, of Transpose those
    that it moves, of ScatterND those above size 1 that its indices address. Raises NotKnown, of an operator
    without axes as well.
    """
    found = _SPECIAL.get(node.op, _told)(node)
    return tuple(sorted({axis if axis < 0 else axis - rank_of(node) for axis in found}))


def rank_of(node: Node) -> int:
    """The rank that a node's axes count in. Raises NotKnown."""
    if node.op == "Unsqueeze":
        return node.outputs[0].rank
    try:
        return node.input(0).rank
    except NotKnown:
        if node.op in ("Concat", "Softmax", "LogSoftmax", "Hardmax", "Split", "Slice", "Pad", "Resize", "Upsample"):
            return node.outputs[0].rank
        raise


def _told(node: Node) -> Iterable[int]:
    if node.op.startswith("Reduce"):
        return _reduced(node)
    for name in ("axis", "axes"):
        value = parameter(node, name)
        if value is not None:
            return [value] if isinstance(value, int) else list(value)
    raise NotKnown(f"the axes of {node.op}")


def _reduced(node: Node) -> Iterable[int]:
    if given := parameter(node, "axes"):
        return list(given)
    return [] if attribute(node, "noop_with_empty_axes") else range(-rank_of(node), 0)


def _softmax(node: Node) -> Iterable[int]:
    """Before opset 13 it makes a matrix of its input and goes over all that lies behind the axis."""
    axis = attribute(node, "axis")
    if axis is None:
        raise NotKnown(f"the axis of {node.op}")
    if opset(node) >= 13:
        return [axis]
    value, rank = node.input(0), rank_of(node)
    start = axis if axis < 0 else axis - rank
    dims = value.dims or (None,) * rank
    return [place for place in range(start, 0) if dims[place] != 1] or [-1]


def _layer_norm(node: Node) -> Iterable[int]:
    axis = attribute(node, "axis") or 0
    return range(axis if axis < 0 else axis - rank_of(node), 0)


def _squeezed(node: Node) -> Iterable[int]:
    given = parameter(node, "axes")
    return list(given) if given else [place for place, size in enumerate(node.input(0).shape) if size == 1]


def _sliced(node: Node) -> Iterable[int]:
    starts, ends = (_required(node, name) for name in ("starts", "ends"))
    steps = parameter(node, "steps") or [1] * len(starts)
    places = parameter(node, "axes") or range(len(starts))
    dims = node.input(0).dims
    for place, start, end, step in zip(places, starts, ends, steps, strict=True):
        size = dims[place] if dims else None
        whole = start == 0 and step == 1 and end >= (size if isinstance(size, int) else 2**31 - 1)
        if not whole:
            yield place


def _padded(node: Node) -> Iterable[int]:
    pads = _required(node, "pads")
    places = parameter(node, "axes") or range(-(len(pads) // 2), 0)
    before, after = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    return [place for place, *amounts in zip(places, before, after, strict=True) if any(amounts)]


def _scaled(node: Node) -> Iterable[int]:
    found = scales(node)
    return [place - len(found) for place, scale in enumerate(found) if scale != 1]


def _moved(node: Node) -> Iterable[int]:
    order = permutation(node)
    return [place - len(order) for place, origin in enumerate(order) if place != origin]


def permutation(node: Node) -> list[int]:
    """For each axis of a Transpose's output, counted from the front, the input's. Raises NotKnown."""
    return list(attribute(node, "perm") or reversed(range(rank_of(node))))


def _addressed(node: Node) -> Iterable[int]:
    shape = node.input(0).shape
    return [place - len(shape) for place in range(node.input(1).shape[-1]) if shape[place] > 1]


def _required(node: Node, name: str) -> Any:
    value = parameter(node, name)
    if value is None:
        raise NotKnown(f"{name} of {node.op}")
    return value


_SPECIAL: Mapping[str, Callable[[Node], Iterable[int]]] = {
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Hardmax": _softmax,
    "LayerNormalization": _layer_norm,
    "Squeeze": _squeezed,
    "Slice": _sliced,
    "Pad": _padded,
    "Resize": _scaled,
    "Upsample": _scaled,
    "Transpose": _moved,
    "ScatterND": _addressed,
}
