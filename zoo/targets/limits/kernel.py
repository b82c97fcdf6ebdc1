"""Limits on the window of convolutions and poolings: kernel, stride, dilation, groups, padding."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from zoo.config import Positive
from zoo.graph.view import Node
from zoo.targets.condition import Aspect, Condition, allowed, forbidden
from zoo.targets.limit import Limit
from zoo.targets.operators import window
from zoo.targets.wording import either, sides

Pair = Annotated[tuple[Positive, Positive], Field(strict=False)]  # height, width
Sides = Positive | Pair  # one number for both


class Window(Condition):
    """Kernel and strides are [height, width]; a 1-D window is one pixel high, and its stride that of both sides."""

    kernels: Annotated[tuple[Pair, ...], Field(strict=False, min_length=1)] | None = None  # one of these
    kernel_min: Positive | None = None  # of its longest side
    kernel_max: Positive | None = None  # of its longest side
    strides: Annotated[tuple[Sides, ...], Field(strict=False, min_length=1)] | None = None  # one of these
    stride_min: Positive | None = None  # of the larger one
    stride_max: Positive | None = None  # of the larger one
    equal_strides: bool | None = None  # whether all strides are the same
    stride_is_kernel: bool | None = None  # whether windows stand side by side, in both directions
    dilation_min: Positive | None = None  # of the larger one
    depthwise: bool | None = None  # whether each of several input channels is convolved by itself
    grouped: bool | None = None  # whether there is more than one group
    pad_over_width: Literal["any", "left_right"] | None = None  # a pad larger than the input is wide, of which sides

    aspects: ClassVar[dict[str, Aspect]] = {
        "kernels": Aspect(
            lambda node, known: window.kernel(node) in known,
            lambda known: f"kernel {either(map(sides, known))}",
            lambda node: f"kernel {sides(window.kernel(node))}",
        ),
        "kernel_min": Aspect(
            lambda node, size: max(window.kernel(node)) >= size,
            lambda size: f"a kernel side of {size} or more",
            lambda node: f"kernel {sides(window.kernel(node))}",
        ),
        "kernel_max": Aspect(
            lambda node, size: max(window.kernel(node)) <= size,
            lambda size: f"kernel sides of at most {size}",
            lambda node: f"kernel {sides(window.kernel(node))}",
        ),
        "strides": Aspect(
            lambda node, known: any(_is_stride(window.strides(node), each) for each in known),
            lambda known: f"stride {either(_stride(each) for each in known)}",
            lambda node: f"stride {_stride(window.strides(node))}",
        ),
        "stride_min": Aspect(
            lambda node, size: max(window.strides(node)) >= size,
            lambda size: f"a stride of {size} or more",
            lambda node: f"stride {_stride(window.strides(node))}",
        ),
        "stride_max": Aspect(
            lambda node, size: max(window.strides(node)) <= size,
            lambda size: f"strides of at most {size}",
            lambda node: f"stride {_stride(window.strides(node))}",
        ),
        "equal_strides": Aspect(
            lambda node, equal: (len(set(window.strides(node))) == 1) == equal,
            lambda equal: "equal strides" if equal else "unequal strides",
            lambda node: f"stride {_stride(window.strides(node))}",
        ),
        "stride_is_kernel": Aspect(
            lambda node, same: (window.strides(node) == window.kernel(node)) == same,
            lambda same: "a stride of the kernel's size" if same else "a stride of another size than the kernel's",
            lambda node: f"kernel {sides(window.kernel(node))}, stride {_stride(window.strides(node))}",
        ),
        "dilation_min": Aspect(
            lambda node, size: max(window.dilations(node)) >= size,
            lambda size: f"a dilation of {size} or more",
            lambda node: f"dilation {_stride(window.dilations(node))}",
        ),
        "depthwise": Aspect(
            lambda node, depthwise: window.is_depthwise(node) == depthwise,
            lambda depthwise: "depthwise" if depthwise else "not depthwise",
            lambda node: "depthwise" if window.is_depthwise(node) else "not depthwise",
        ),
        "grouped": Aspect(
            lambda node, grouped: (window.groups(node) > 1) == grouped,
            lambda grouped: "more than one group" if grouped else "one group",
            lambda node: f"groups {window.groups(node)}",
        ),
        "pad_over_width": Aspect(
            lambda node, which: max(_pads(node, which)) > window.input_width(node),
            lambda which: "padding" + (" on the left or right" if which == "left_right" else "") + " over the width",
            lambda node: (
                f"padding {', '.join(map(str, window.pads(node)))} of an input {window.input_width(node)} wide"
            ),
        ),
    }


class ForbiddenWindow(Limit):
    """The window must not meet the condition."""

    kind: Literal["forbidden_window"]
    when: Window

    def found(self, node: Node) -> str | None:
        return forbidden(node, self.when, self.severity)


class AllowedWindows(Limit):
    """The window must meet one of the conditions in ``only``, where it meets ``when``."""

    kind: Literal["allowed_windows"]
    when: Window | None = None
    only: Annotated[tuple[Window, ...], Field(strict=False, min_length=1)]

    def found(self, node: Node) -> str | None:
        return allowed(node, self.when, self.only)


class KernelMatchesWeight(Limit):
    """The attribute ``kernel_shape``, where it is given, is the shape of the weights."""

    kind: Literal["kernel_matches_weight"]

    def found(self, node: Node) -> str | None:
        said, real = node.attributes.get("kernel_shape"), window.weight_kernel(node)
        return None if said is None or tuple(said) == real else f"kernel_shape {sides(said)} of weights {sides(real)}"


def _is_stride(strides: tuple[int, ...], known: Any) -> bool:
    return strides == known if isinstance(known, tuple) else set(strides) == {known}


def _stride(strides: Any) -> str:
    if not isinstance(strides, tuple):
        return f"{strides}"
    return f"{strides[0]}" if len(set(strides)) == 1 else sides(strides)


def _pads(node: Node, which: str) -> tuple[int, ...]:
    found = window.pads(node)
    return (found[len(found) // 2 - 1], found[-1]) if which == "left_right" else found
