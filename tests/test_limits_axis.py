"""Axes, in every way that opsets write them, and what is indexed, on either side of each limit's border."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from limit_cases import Case, check, limit
from onnx_nodes import Shape, node

from zoo.graph.view import Node, NotKnown, Value
from zoo.targets.operators.axes import axes

IMAGE = (1, 8, 6, 4)


def ints(*values: int) -> Any:
    return np.array(values, "int64")


def softmax(shape: Shape = IMAGE, opset: int = 13, **attributes: Any) -> partial[Node]:
    return partial(node, "Softmax", shape, opset=opset, **attributes)


def concat(axis: int, shape: Shape = IMAGE) -> partial[Node]:
    return partial(node, "Concat", shape, shape, axis=axis)


def sliced(starts: Any, ends: Any, axes: Any = None, steps: Any = None, shape: Shape = IMAGE) -> partial[Node]:
    given = [None if each is None else ints(*each) for each in (starts, ends, axes, steps)]
    return partial(node, "Slice", shape, *given)


def transpose(shape: Shape, *perm: int) -> partial[Node]:
    return partial(node, "Transpose", shape, **({"perm": perm} if perm else {}))


def resize(*scales: float) -> partial[Node]:
    return partial(node, "Resize", IMAGE, None, np.array(scales, "float32"))


def scatter_nd(data: Shape, *indices: int) -> partial[Node]:
    updates = (*indices[:-1], *data[indices[-1] :])
    return partial(node, "ScatterND", data, np.zeros(indices, "int64"), updates)


def gather(axis: int, shape: Shape = IMAGE) -> partial[Node]:
    return partial(node, "Gather", shape, ints(0, 1), axis=axis)


def within(*axes: str) -> dict[str, Any]:
    return {"kind": "axis_in", "axes": list(axes)}


def outside(*axes: str) -> dict[str, Any]:
    return {"kind": "axis_not_in", "axes": list(axes)}


CHANNEL_OR_FLAT = within("channel") | {"flat": ["width"]}
MOVED = {"kind": "axis_not_moved", "axis": "width", "to": [0, 1], "rank_min": 5}
FIVE = (2, 3, 4, 5, 6)
CASES = [
    Case(
        CHANNEL_OR_FLAT,
        held=concat(1, (1, 8)),
        broken=concat(3),
        fact="along width; only along channel, of flat inputs along width",
    ),
    Case(CHANNEL_OR_FLAT, held=concat(3, (1, 1, 1, 8)), broken=concat(2, (1, 4, 8)), fact="along width"),
    Case(CHANNEL_OR_FLAT, held=concat(1), broken=concat(0, (1, 8)), fact="along height"),
    Case(within("width"), held=softmax(), broken=softmax(axis=2), fact="along height; only along width"),
    Case(
        within("width", "height"),
        held=softmax(axis=2),
        broken=softmax(axis=1),
        fact="along channel; only along width or",
    ),
    Case(within("width"), held=softmax((1, 10), opset=11), broken=softmax(opset=11), fact="channel, height and width"),
    Case(
        within("width"),
        held=softmax((1, 1, 1, 9), opset=11),
        broken=softmax((2, 3, 1, 9), opset=11, axis=0),
        fact="axis -4",
    ),
    Case(
        within("channel"),
        held=partial(node, "ArgMax", IMAGE, axis=1),
        broken=partial(node, "ArgMax", IMAGE),
        fact="axis -4",
    ),
    Case(
        within("width"),
        held=partial(node, "LayerNormalization", (1, 6, 4), np.ones(4, "float32")),
        broken=partial(node, "LayerNormalization", (1, 6, 4), np.ones((6, 4), "float32"), axis=1),
        fact="along height and width",
    ),
    Case(
        within("height"),
        held=partial(node, "ReduceMax", IMAGE, axes=[2], opset=13),
        broken=partial(node, "ReduceMax", IMAGE, opset=13),
        fact="along axis -4, channel, height and width",
    ),
    Case(
        within("height", "width"),
        held=partial(node, "ReduceMean", IMAGE, ints(-1, -2)),
        broken=partial(node, "ReduceMean", IMAGE, ints(1, 3)),
        fact="along channel and width; only",
    ),
    Case(
        within("width"),
        held=partial(node, "TopK", IMAGE, ints(2), outputs=2),
        broken=partial(node, "TopK", IMAGE, ints(2), axis=1, outputs=2),
        fact="channel",
    ),
    Case(within("height", "width"), held=resize(1, 1, 2, 2), broken=resize(1, 2, 2, 2), fact="along channel"),
    Case(
        within("height", "width"),
        held=partial(node, "Pad", IMAGE, ints(0, 0, 1, 1, 0, 0, 1, 1)),
        broken=partial(node, "Pad", IMAGE, ints(0, 0, 0, 0, 0, 2, 0, 0)),
        fact="along channel",
    ),
    Case(
        within("height", "width"),
        held=partial(node, "Pad", IMAGE, pads=[0, 0, 1, 0, 0, 0, 0, 0], opset=10),
        broken=partial(node, "Pad", IMAGE, ints(1, 1), None, ints(1)),
        fact="along channel",
    ),
    Case(
        within("width"),
        held=scatter_nd((1, 1, 1, 9), 5, 4),
        broken=scatter_nd((1, 1, 6, 9), 5, 4),
        fact="along height and width; only along width",
    ),
    Case(outside("batch"), held=concat(1), broken=concat(-4), fact="along axis -4; not along batch"),
    Case(outside("batch"), held=concat(0, (8, 4)), broken=concat(0, (1, 1, 1, 1, 2)), fact="along axis -5"),
    Case(
        outside("batch"),
        held=sliced([0, 2], [9, 4], [0, 1]),
        broken=sliced([1], [2], [0], shape=(4, 8, 6, 4)),
        fact="axis -4",
    ),
    Case(outside("batch"), held=transpose(IMAGE, 0, 2, 3, 1), broken=transpose(IMAGE), fact="along axis -4"),
    Case(
        {"kind": "axes_max", "value": 1},
        held=sliced([0, 1], [8, 3], [1, 2]),
        broken=sliced([1, 1], [8, 3], [1, 2]),
        fact="channel and height; at most 1",
    ),
    Case(
        {"kind": "axes_max", "value": 1},
        held=partial(node, "Split", IMAGE, ints(4, 4), axis=1, outputs=2),
        broken=sliced([0] * 4, [1] * 4, shape=(2, 2, 2, 2)),
        fact="at most 1 at once",
    ),
    Case(
        MOVED,
        held=transpose(FIVE, 0, 1, 4, 2, 3),
        broken=transpose(FIVE, 0, 4, 1, 2, 3),
        fact="width moved to axis 1 at rank 5",
    ),
    Case(
        MOVED,
        held=transpose((2, 3, 4, 5), 3, 0, 1, 2),
        broken=transpose(FIVE),
        fact="not to axis 0 or 1 at rank 5 or more",
    ),
    Case(
        {"kind": "ones_before_axis"},
        held=gather(2, (1, 1, 6, 4)),
        broken=gather(2),
        fact="axis 2 of 1x8x6x4; only 1 in front of it",
    ),
    Case({"kind": "ones_before_axis"}, held=gather(0, (6, 4)), broken=gather(-1, (1, 6, 4)), fact="axis 2 of 1x6x4"),
    Case(
        {"kind": "slice_steps", "allowed": [1]},
        held=sliced([0], [4], [2]),
        broken=sliced([0], [6], [2], [2]),
        fact="steps 2; only 1",
    ),
    Case(
        {"kind": "slice_steps", "allowed": [1]},
        held=sliced([0], [4], [2], [1]),
        broken=sliced([5], [0], [2], [-1]),
        fact="-1",
    ),
    Case(
        {"kind": "scatter_updates", "allowed": ["element", "line"]},
        held=scatter_nd((2, 3, 4), 5, 2),
        broken=scatter_nd((2, 3, 4), 5, 1),
        fact="each update is one plane; only element or line",
    ),
    Case(
        {"kind": "scatter_updates", "allowed": ["element"]},
        held=scatter_nd((2, 3), 5, 2),
        broken=scatter_nd((2, 3), 5, 1),
        fact="one line",
    ),
    Case(
        {"kind": "scatter_updates", "allowed": ["plane"]},
        held=scatter_nd((2, 3), 5, 0),
        broken=scatter_nd(IMAGE, 5, 1),
        fact="block of 3",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_either_side_of_the_border(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (partial(node, "Squeeze", (1, 8, 1, 4), ints(0)), (-4,)),
        (partial(node, "Squeeze", (1, 8, 1, 4)), (-4, -2)),
        (partial(node, "Squeeze", (1, 8, 1, 4), axes=[2], opset=11), (-2,)),
        (partial(node, "Unsqueeze", (8, 4), ints(0)), (-3,)),
        (partial(node, "Unsqueeze", (8, 4), axes=[2], opset=11), (-1,)),
        (partial(node, "Slice", IMAGE, starts=[1], ends=[3], axes=[3], opset=9), (-1,)),
        (partial(node, "ReduceSum", IMAGE, None, noop_with_empty_axes=1), ()),
        (partial(node, "CumSum", IMAGE, ints(1)), (-3,)),
        (partial(node, "Upsample", IMAGE, mode="nearest", scales=[1.0, 1.0, 2.0, 2.0], opset=7), (-2, -1)),
        (partial(node, "Split", IMAGE, axis=-1, split=[2, 2], outputs=2, opset=11), (-1,)),
        (partial(node, "ScatterElements", IMAGE, np.zeros((1, 1, 1, 1), "int64"), (1, 1, 1, 1)), (-4,)),
        (partial(node, "LogSoftmax", IMAGE), (-1,)),
        (partial(node, "LogSoftmax", (4, 8), opset=11), (-1,)),
        (partial(node, "DequantizeLinear", IMAGE, np.ones(8, "float32"), np.zeros(8, "uint8")), (-3,)),
    ],
)
def test_axes_are_found_however_the_opset_writes_them(asked: partial[Node], expected: tuple[int, ...]) -> None:
    assert axes(asked()) == expected


@pytest.mark.parametrize(
    "asked",
    [
        partial(node, "Relu", IMAGE),
        partial(node, "ReduceMean", IMAGE, (2,)),
        partial(node, "Pad", IMAGE, (8,)),
        partial(Node, "padded", "Pad", (Value("x", IMAGE),), (), opset=18),
        partial(Node, "theirs", "Softmax", (), (), domain="other", opset=1),
    ],
)
def test_axes_that_the_file_does_not_tell_are_not_known(asked: partial[Node]) -> None:
    with pytest.raises(NotKnown):
        axes(asked())


def test_an_axis_from_the_end_needs_no_shape() -> None:
    assert limit(within("width")).broken(Node("softmax", "Softmax", (), (), {"axis": -1}, opset=13)) is None
    with pytest.raises(NotKnown, match="opset"):
        limit(within("width")).broken(Node("softmax", "Softmax", (), (), {"axis": -1}))
    with pytest.raises(NotKnown, match="in0"):
        limit({"kind": "ones_before_axis"}).broken(node("Gather", (None, 8), ints(0, 1), axis=1))
