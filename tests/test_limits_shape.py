"""Shapes on either side of each limit's border."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from limit_cases import Case, check, limit
from onnx_nodes import Shape, node

from zoo.graph.view import Node, NotKnown


def relu(*shape: int | str | None) -> partial[Node]:
    return partial(node, "Relu", shape)


def reshape(shape: Shape, *to: int) -> partial[Node]:
    return partial(node, "Reshape", shape, np.array(to, "int64"))


def gather(data: Shape, *indices: int, axis: int = 0) -> partial[Node]:
    return partial(node, "Gather", data, np.zeros(indices, "int64"), axis=axis)


def rearranged(op: str, *shape: int, blocksize: int = 2) -> partial[Node]:
    return partial(node, op, shape, blocksize=blocksize)


def add(*shape: int | str | None, constant: bool = True) -> partial[Node]:
    return partial(node, "Add", shape, np.ones(1, "float32") if constant else shape)


FLAT = {"kind": "flat_input"}
VOLUME = {"kind": "same_volume"}
STATIC = {"kind": "static_shapes", "when": "constant_operand"}


def scattered(*updates: int) -> partial[Node]:
    indices = np.zeros(updates, "int64")
    return partial(node, "ScatterElements", (1, 4, 4, 4), indices, updates, axis=3)


CASES = [
    Case({"kind": "rank", "max": 5}, held=relu(1, 1, 2, 2, 2), broken=relu(1, 1, 1, 1, 1, 2), fact="rank 6"),
    Case(
        {"kind": "rank", "min": 4, "max": 4},
        held=relu(1, 8, 4, 4),
        broken=relu(1, 8, 4),
        fact="input 0 of rank 3, 1x8x4; rank 4",
    ),
    Case({"kind": "rank", "of": 1, "min": 1, "max": 1}, held=gather((4, 4), 3), broken=gather((4, 4)), fact="rank 0"),
    Case(
        {"kind": "rank", "of": "outputs", "max": 3},
        held=gather((4, 4), 3, 1),
        broken=gather((4, 4), 3, 1, 1),
        fact="output of rank 4, 3x1x1x4; rank at most 3",
    ),
    Case({"kind": "rank", "min": 3, "of": 0}, held=relu(1, 1, 1), broken=relu(8, 8), fact="rank at least 3"),
    Case(
        {"kind": "nonsingleton_rank", "max": 2},
        held=relu(1, 8, 1, 1, 4),
        broken=relu(2, 8, 1, 4),
        fact="input 0 2x8x1x4; at most 2 dimensions above 1",
    ),
    Case(
        {"kind": "nonsingleton_rank", "of": "constants", "max": 1},
        held=partial(node, "Sub", (1, 8, 4, 4), np.ones((1, 8, 1, 1), "float32")),
        broken=partial(node, "Sub", (1, 8, 4, 4), np.ones((8, 4, 1), "float32")),
        fact="input 1 8x4x1; at most 1 dimensions above 1",
    ),
    Case(
        {"kind": "nonsingleton_rank", "of": 1, "max": 0},
        held=partial(node, "Pow", (1, 8), np.full((1, 1), 2, "float32")),
        broken=partial(node, "Pow", (1, 8), np.full(8, 2, "float32")),
        fact="input 1 8; at most 0",
    ),
    Case(
        {"kind": "size", "axis": "batch", "max": 1},
        held=relu(1, 8, 4, 4),
        broken=relu(2, 8, 4, 4),
        fact="batch 2 of input 0; at most 1",
    ),
    Case({"kind": "size", "axis": "batch", "max": 1}, held=relu(2, 8, 4), broken=relu(2, 1, 1, 1, 1), fact="batch 2"),
    Case(
        {"kind": "size", "axis": "channel", "of": 2, "max": 1},
        held=scattered(1, 1, 4, 2),
        broken=scattered(1, 2, 4, 1),
        fact="channel 2 of input 2; at most 1",
    ),
    Case(
        {"kind": "size", "axis": "width", "min": 4}, held=relu(4), broken=relu(8, 3), fact="width 3 of input 0; at le"
    ),
    Case({"kind": "size", "axis": "height", "min": 2}, held=relu(2, 1), broken=relu(8), fact="height 1"),
    Case(
        {"kind": "plane_max", "value": 1024},
        held=partial(node, "GlobalAveragePool", (1, 8, 32, 32)),
        broken=partial(node, "GlobalAveragePool", ("batch", 8, 32, 33)),
        fact="plane 32x33, 1056 elements; at most 1024",
    ),
    Case(
        {"kind": "multiple_of", "axes": ["channel"], "value": "block_squared"},
        held=rearranged("DepthToSpace", 1, 8, 4, 4),
        broken=rearranged("DepthToSpace", 1, 6, 4, 4),
        fact="channel 6; only multiples of 4",
    ),
    Case(
        {"kind": "multiple_of", "axes": ["height", "width"], "value": "block"},
        held=rearranged("SpaceToDepth", 1, 2, 6, 4),
        broken=rearranged("SpaceToDepth", 1, 2, 6, 5),
        fact="width 5; only multiples of 2",
    ),
    Case(
        {"kind": "multiple_of", "axes": ["channel"], "value": 8},
        held=relu(1, 16, 3, 3),
        broken=relu(1, 12, 3, 3),
        fact="8",
    ),
    Case(FLAT, held=relu(1, 1, 1, 10), broken=relu(1, 4, 1, 10), fact="input 1x4x1x10; only 1x1x1xN"),
    Case(FLAT, held=relu(1, "n"), broken=relu("batch", 2, 10), fact="only 1x1xN"),
    Case(VOLUME, held=reshape((1, 8, 2), 4, 4), broken=reshape((1, 8, 2), 4, 5), fact="1x8x2 to 4x5"),
    Case(VOLUME, held=reshape(("n", 8, 2), 0, 16), broken=reshape(("n", 8, 2), 0, 17), fact="nx8x2 to nx17"),
    Case(STATIC, held=add(1, 8), broken=add("batch", 8), fact="input 0 batchx8; batch must be a number"),
    Case(STATIC, held=add("batch", 8, constant=False), broken=add(1, "h", "w"), fact="h and w must be a number"),
    Case({"kind": "static_shapes"}, held=relu(1, 8), broken=relu(1, "length"), fact="1xlength"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_either_side_of_the_border(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ({"kind": "nonsingleton_rank", "max": 2}, relu("n", 8, 8)),
        ({"kind": "nonsingleton_rank", "min": 3}, relu("n", 8, 8)),
        ({"kind": "size", "axis": "batch", "max": 1}, relu("n", 8, 8, 8)),
        ({"kind": "plane_max", "value": 1024}, partial(node, "GlobalAveragePool", (1, 8, 32, "w"))),
        ({"kind": "flat_input"}, relu("n", 8)),
        ({"kind": "multiple_of", "axes": ["width"], "value": 8}, relu(1, "w")),
        ({"kind": "multiple_of", "axes": ["width"], "value": "block"}, relu(1, 8)),
        ({"kind": "same_volume"}, reshape(("n", 8), -1, 4)),
        ({"kind": "static_shapes"}, relu(1, None)),
    ],
)
def test_a_dynamic_size_that_decides_is_not_known(said: dict[str, Any], asked: partial[Node]) -> None:
    with pytest.raises(NotKnown):
        limit(said).broken(asked())


def test_a_dynamic_size_that_does_not_decide_is_no_hindrance() -> None:
    assert limit({"kind": "nonsingleton_rank", "max": 3}).broken(node("Relu", ("n", 8, 8))) is None
    assert limit({"kind": "nonsingleton_rank", "max": 1}).broken(node("Relu", ("n", 8, 8))) is not None
    assert limit({"kind": "multiple_of", "axes": ["width"], "value": 8}).broken(node("Relu", ("n", 16))) is None
