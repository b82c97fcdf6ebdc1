"""Windows of convolutions and poolings on either side of each limit's border."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from limit_cases import Case, check, limit
from onnx_nodes import node

from zoo.graph.view import Node, NotKnown


def conv(*kernel: int, channels: int = 8, group: int = 1, size: int = 16, **attributes: Any) -> partial[Node]:
    weights = np.zeros((8, channels // group, *kernel), "float32")
    return partial(node, "Conv", (1, channels, *[size] * len(kernel)), weights, group=group, **attributes)


def depthwise(*kernel: int, **attributes: Any) -> partial[Node]:
    return conv(*kernel, group=8, **attributes)


def pool(*kernel: int, op: str = "MaxPool", **attributes: Any) -> partial[Node]:
    return partial(node, op, (1, 8, 16, 16), kernel_shape=kernel, **attributes)


def transposed(*kernel: int, **attributes: Any) -> partial[Node]:
    return partial(node, "ConvTranspose", (1, 8, 16, 16), np.zeros((8, 4, *kernel), "float32"), **attributes)


DEPTHWISE = {
    "kind": "allowed_windows",
    "when": {"depthwise": True},
    "only": [{"kernels": [[1, 3]], "strides": [1]}, {"kernels": [[3, 3], [5, 5]], "strides": [1, 2]}],
}


def forbidden(**when: Any) -> dict[str, Any]:
    return {"kind": "forbidden_window", "when": when}


def allowed(*only: dict[str, Any], **when: Any) -> dict[str, Any]:
    return {"kind": "allowed_windows", "only": list(only)} | ({"when": when} if when else {})


CASES = [
    Case(
        forbidden(kernel_min=8, strides=[2]),
        held=conv(7, 7, strides=[2, 2]),
        broken=conv(9, 3, strides=[2, 2]),
        fact="kernel 9x3, stride 2; not supported: a kernel side of 8 or more, stride 2",
    ),
    Case(forbidden(kernel_min=8, strides=[2]), held=conv(9, 9), broken=conv(9, 9, strides=[2, 2]), fact="kernel 9x9"),
    Case(
        forbidden(kernels=[[3, 3]], strides=[3]),
        held=conv(3, 5, strides=[3, 3]),
        broken=conv(3, 3, strides=[3, 3]),
        fact="kernel 3x3, stride 3; not supported: kernel 3x3, stride 3",
    ),
    Case(
        forbidden(equal_strides=False),
        held=conv(3, 3, strides=[2, 2]),
        broken=conv(3, 3, strides=[1, 2]),
        fact="stride 1x2; not supported: unequal strides",
    ),
    Case(
        forbidden(kernel_min=3, stride_is_kernel=True),
        held=conv(12, 12, strides=[6, 6]),
        broken=conv(12, 12, strides=[12, 12]),
        fact="kernel 12x12, stride 12; not supported: a kernel side of 3 or more, a stride of the kernel's size",
    ),
    Case(
        forbidden(stride_is_kernel=False),
        held=conv(3, 5, strides=[3, 5]),
        broken=conv(3, 5, strides=[3, 3]),
        fact="a stride of another size",
    ),
    Case(forbidden(equal_strides=True), held=pool(3, 3, strides=[2, 1]), broken=pool(3, 3), fact="equal strides"),
    Case(
        forbidden(dilation_min=2),
        held=pool(3, 3),
        broken=pool(3, 3, dilations=[1, 2]),
        fact="dilation 1x2; not supported: a dilation of 2 or more",
    ),
    Case(
        forbidden(dilation_min=2, stride_min=2),
        held=conv(3, 3, dilations=[2, 2]),
        broken=conv(3, 3, dilations=[2, 2], strides=[2, 2]),
        fact="dilation 2",
    ),
    Case(
        forbidden(grouped=True),
        held=transposed(2, 2),
        broken=transposed(2, 2, group=2),
        fact="groups 2; not supported: more than one group",
    ),
    Case(
        forbidden(depthwise=False, grouped=True),
        held=depthwise(3, 3),
        broken=conv(3, 3, group=4),
        fact="groups 4",
    ),
    Case(
        forbidden(pad_over_width="any"),
        held=conv(3, 3, size=4, pads=[4, 4, 4, 4]),
        broken=conv(3, 3, size=4, pads=[5, 4, 4, 4]),
        fact="padding 5, 4, 4, 4 of an input 4 wide; not supported: padding over the width",
    ),
    Case(
        forbidden(pad_over_width="left_right"),
        held=conv(3, 3, size=4, pads=[5, 4, 5, 4]),
        broken=conv(3, 3, size=4, pads=[0, 0, 0, 5]),
        fact="padding on the left or right over the width",
    ),
    Case(
        forbidden(pad_over_width="any"),
        held=conv(9, 9, size=4, auto_pad="SAME_UPPER"),
        broken=conv(10, 10, size=4, auto_pad="SAME_LOWER"),
        fact="padding 5, 5, 4, 4",
    ),
    Case(
        allowed({"kernel_max": 5}),
        held=conv(5, 5),
        broken=conv(1, 7),
        fact="kernel 1x7; only kernel sides of at most 5",
    ),
    Case(
        allowed({"kernels": [[11, 11]]}, strides=[4]),
        held=conv(11, 11, strides=[4, 4]),
        broken=conv(7, 7, strides=[4, 4]),
        fact="stride 4, kernel 7x7; where stride 4, only kernel 11x11",
    ),
    Case(allowed({"kernels": [[11, 11]]}, strides=[4]), held=conv(7, 7), broken=conv(3, 3, strides=[4, 4]), fact="3x3"),
    Case(DEPTHWISE, held=depthwise(5, 5, strides=[2, 2]), broken=depthwise(1, 3, strides=[2, 2]), fact="depthwise, "),
    Case(
        DEPTHWISE,
        held=conv(7, 7),
        broken=depthwise(7, 7),
        fact="where depthwise, only kernel 1x3, stride 1; or",
    ),
    Case(DEPTHWISE, held=depthwise(3), broken=depthwise(5), fact="kernel 1x5"),
    Case(DEPTHWISE, held=conv(3, 3, group=2), broken=depthwise(3, 5), fact="kernel 3x5"),
    Case(
        allowed({"kernels": [[2, 2], [4, 4]], "strides": [2]}),
        held=transposed(4, 4, strides=[2, 2]),
        broken=transposed(3, 3, strides=[2, 2]),
        fact="kernel 3x3, stride 2; only kernel 2x2 or 4x4, stride 2",
    ),
    Case(
        allowed({"kernels": [[1, 2]], "strides": [[1, 2]]}, {"kernels": [[1, 1]], "equal_strides": False}),
        held=pool(1, 2, strides=[1, 2]),
        broken=pool(1, 2, strides=[2, 2]),
        fact="kernel 1x2, stride 2; only kernel 1x2, stride 1x2; or kernel 1x1, unequal strides",
    ),
    Case(
        allowed({"stride_max": 2}),
        held=pool(3, 3, op="AveragePool", strides=[2, 1]),
        broken=pool(3, 3, op="AveragePool", strides=[1, 3]),
        fact="stride 1x3; only strides of at most 2",
    ),
    Case(
        {"kind": "kernel_matches_weight"},
        held=conv(3, 3, kernel_shape=[3, 3]),
        broken=conv(3, 3, kernel_shape=[5, 5]),
        fact="kernel_shape 5x5 of weights 3x3",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_either_side_of_the_border(case: Case) -> None:
    check(case)


def test_a_kernel_that_is_not_told_decides_only_where_nothing_else_does() -> None:
    unknown = node("Conv", (1, 8, 16, 16), (None, None, None, None), strides=[2, 2])
    assert limit(forbidden(kernel_min=8, strides=[1])).broken(unknown) is None
    with pytest.raises(NotKnown, match="in1"):
        limit(forbidden(kernel_min=8, strides=[2])).broken(unknown)
    assert limit(allowed({"kernel_max": 5}, {"strides": [2]})).broken(unknown) is None
    with pytest.raises(NotKnown, match="in1"):
        limit(allowed({"kernel_max": 5}, {"strides": [1]})).broken(unknown)


def test_padding_by_auto_pad() -> None:
    too_wide = limit(forbidden(pad_over_width="any"))
    assert too_wide.broken(conv(3, 3, size=4, auto_pad="VALID")()) is None
    with pytest.raises(NotKnown, match="the padding of ConvTranspose with auto_pad"):
        too_wide.broken(transposed(3, 3, auto_pad="SAME_UPPER")())


@pytest.mark.parametrize(("severity", "means"), [("warning", "not validated"), ("cost", "slow or less exact")])
def test_what_runs_is_not_called_unsupported(severity: str, means: str) -> None:
    asked = limit(forbidden(kernels=[[4, 4]], strides=[4]) | {"severity": severity})
    assert asked.broken(conv(4, 4, strides=[4, 4])()) == f"kernel 4x4, stride 4; {means}: kernel 4x4, stride 4"
