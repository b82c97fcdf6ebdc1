"""The window that a convolution or pooling slides over the image: kernel, strides, dilations, padding, groups."""

from collections.abc import Sequence
from typing import Any

from zoo.graph.view import Node, NotKnown
from zoo.targets.operators.parameters import attribute

WEIGHTS = {"Conv": 1, "ConvTranspose": 1, "DeformConv": 1, "ConvInteger": 1, "QLinearConv": 3}  # where the input is


def kernel(node: Node) -> tuple[int, ...]:
    """Height and width (depth before them in 3-D); a 1-D window is one pixel high. Raises NotKnown."""
    given = attribute(node, "kernel_shape")
    sizes = tuple(given) if given else weight_kernel(node)
    return (1, *sizes) if len(sizes) == 1 else sizes


def weight_kernel(node: Node) -> tuple[int, ...]:
    """The spatial dimensions of the weights. Raises NotKnown."""
    return _weights(node)[2:]


def strides(node: Node) -> tuple[int, ...]:
    """Rows and columns from one window to the next; a 1-D window's are the same. Raises NotKnown."""
    return _each_side(node, "strides")


def dilations(node: Node) -> tuple[int, ...]:
    """Rows and columns from one kernel element to the next; a 1-D window's are the same. Raises NotKnown."""
    return _each_side(node, "dilations")


def groups(node: Node) -> int:
    """The groups of channels that a convolution keeps apart."""
    return int(attribute(node, "group") or 1)


def is_depthwise(node: Node) -> bool:
    """Whether each input channel is convolved by itself, and there are several. Raises NotKnown."""
    count = groups(node)
    if count == 1:
        return False
    shape = _weights(node)
    return count == shape[0] if node.op == "ConvTranspose" else shape[1] == 1


def pads(node: Node) -> tuple[int, ...]:
    """Padding as ONNX orders it: top and left, then bottom and right; of a 1-D window left, then right.

    Raises NotKnown.
    """
    mode = attribute(node, "auto_pad") or "NOTSET"
    sides = len(_spatial(node))
    if mode == "NOTSET":
        return tuple(attribute(node, "pads") or [0] * 2 * sides)
    if mode == "VALID":
        return (0,) * 2 * sides
    if node.op == "ConvTranspose":
        raise NotKnown(f"the padding of {node.op} with auto_pad")
    totals = _same(node, sides)
    before, after = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return (*before, *after) if mode == "SAME_UPPER" else (*after, *before)


def input_width(node: Node) -> int:
    """Columns of the input. Raises NotKnown."""
    return node.input(0).shape[-1]


def _same(node: Node, sides: int) -> list[int]:
    """Padding of each axis that keeps ceil(input / stride) positions (ONNX, auto_pad)."""
    sizes = node.input(0).shape[2:]
    found = []
    for size, extent, step, gap in zip(
        sizes, kernel(node)[-sides:], strides(node)[-sides:], dilations(node)[-sides:], strict=True
    ):
        positions = -(-size // step)
        found.append(max((positions - 1) * step + (extent - 1) * gap + 1 - size, 0))
    return found


def _each_side(node: Node, name: str) -> tuple[int, ...]:
    given: Sequence[Any] | None = attribute(node, name)
    if not given:
        return (1,) * len(kernel(node))
    return (given[0], given[0]) if len(given) == 1 else tuple(given)


def _spatial(node: Node) -> tuple[int, ...]:
    return tuple(attribute(node, "kernel_shape") or ()) or weight_kernel(node)


def _weights(node: Node) -> tuple[int, ...]:
    if node.op not in WEIGHTS:
        raise NotKnown(f"the kernel of {node.op}")
    return node.input(WEIGHTS[node.op]).shape
