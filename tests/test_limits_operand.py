"""Inputs, outputs, constants and broadcasting on either side of each limit's border."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from limit_cases import Case, check, limit
from onnx_nodes import Operand, Shape, node

from zoo.graph.view import Node, NotKnown, Value

IMAGE = (1, 8, 6, 4)


def floats(*shape: int) -> Any:
    return np.ones(shape, "float32")


def add(*operands: Operand) -> partial[Node]:
    return partial(node, "Add", *operands)


def summed(*operands: Operand) -> partial[Node]:
    return partial(node, "Sum", *operands)


def pool(outputs: int) -> partial[Node]:
    return partial(node, "MaxPool", IMAGE, kernel_shape=[2, 2], outputs=outputs)


def gemm(bias: Operand, shape: Shape = (2, 3)) -> partial[Node]:
    return partial(node, "Gemm", shape, floats(3, 10), bias)


def layer_norm(*scale: int) -> partial[Node]:
    return partial(node, "LayerNormalization", (1, 6, 4), floats(*scale))


def instance_norm(scale: int, bias: int) -> partial[Node]:
    return partial(node, "InstanceNormalization", IMAGE, floats(scale), floats(bias))


BIAS = {"kind": "parameter_shape", "inputs": [2], "shapes": [["N"], [1, "N"]], "axis": -1}
VECTOR = {"kind": "constant_vector", "along": ["channel", "width"]}
NONE = {"kind": "broadcast_in", "axes": []}
CHANNEL = {"kind": "broadcast_in", "axes": ["channel"]}
ABOVE_WIDTH = {"kind": "broadcast_not_in", "axes": ["width"]}
CASES = [
    Case(
        {"kind": "inputs_max", "value": 2},
        held=summed(IMAGE, floats(1)),
        broken=summed(IMAGE, IMAGE, floats(1)),
        fact="3 inputs; at most 2",
    ),
    Case(
        {"kind": "variable_inputs_max", "value": 1},
        held=partial(node, "Mul", IMAGE, floats(8, 1, 1)),
        broken=partial(node, "Mul", IMAGE, IMAGE),
        fact="2 inputs that are no constants; at most 1",
    ),
    Case({"kind": "outputs_max", "value": 1}, held=pool(1), broken=pool(2), fact="2 outputs; at most 1"),
    Case(
        {"kind": "constant_input", "inputs": [1]},
        held=partial(node, "PRelu", IMAGE, floats(8, 1, 1)),
        broken=partial(node, "PRelu", IMAGE, (8, 1, 1)),
        fact="input 1 computed from the model's input; only constants",
    ),
    Case(
        {"kind": "constant_input", "inputs": [1, 2]},
        held=partial(node, "Gemm", (2, 3), floats(3, 10)),
        broken=partial(node, "Gemm", (2, 3), (3, 10), (10,)),
        fact="input 1 and input 2 computed",
    ),
    Case(
        {"kind": "variable_input", "inputs": [0]},
        held=partial(node, "Gather", IMAGE, np.zeros(2, "int64")),
        broken=partial(node, "Sub", floats(1), IMAGE),
        fact="input 0 constant; only what is computed from the model's input",
    ),
    Case(
        {"kind": "absent_input", "inputs": [3]},
        held=partial(node, "Resize", IMAGE, None, np.array([1, 1, 2, 2], "float32")),
        broken=partial(node, "Resize", IMAGE, None, None, np.array([1, 8, 12, 8], "int64")),
        fact="input 3 given; must be left out",
    ),
    Case(
        {"kind": "absent_input", "inputs": [1]},
        held=partial(node, "Resize", IMAGE, floats(0), floats(4)),
        broken=partial(node, "Clip", IMAGE, floats()),
        fact="input 1 given",
    ),
    Case(
        {"kind": "dtype_in", "of": 1, "dtypes": ["int32"]},
        held=partial(node, "Gather", IMAGE, np.zeros(2, "int32")),
        broken=partial(node, "Gather", IMAGE, np.zeros(2, "int64")),
        fact="input 1 of int64; only int32",
    ),
    Case(
        {"kind": "dtype_in", "dtypes": ["float32", "float16"]},
        held=partial(node, "Relu", IMAGE),
        broken=partial(node, "ArgMax", IMAGE),
        fact="output of int64; only float32 or float16",
    ),
    Case(BIAS, held=gemm(floats(1, 10)), broken=gemm(floats(2, 10)), fact="input 2 2x10; only N or 1xN, N = 10"),
    Case(BIAS, held=gemm(None), broken=gemm(floats(1)), fact="input 2 1; only"),
    Case(
        {**BIAS, "inputs": [1]}, held=layer_norm(4), broken=layer_norm(6, 4), fact="input 1 6x4; only N or 1xN, N = 4"
    ),
    Case(
        {"kind": "parameter_shape", "inputs": [1, 2], "shapes": [["N"]], "axis": 1},
        held=instance_norm(8, 8),
        broken=instance_norm(8, 1),
        fact="input 2 1; only N, N = 8",
    ),
    Case(
        VECTOR, held=add(IMAGE, floats(8, 1, 1)), broken=add(IMAGE, floats(6, 1)), fact="input 1 6x1 lies along height"
    ),
    Case(
        VECTOR,
        held=add(IMAGE, floats(4)),
        broken=add(floats(3, 1, 1, 1), IMAGE),
        fact="input 0 3x1x1x1 lies along axis",
    ),
    Case(
        VECTOR,
        held=add(IMAGE, floats(8, 6, 4)),
        broken=add((1, 6, 4), floats(6, 1)),
        fact="only along channel or width",
    ),
    Case(
        {"kind": "broadcastable"},
        held=add((1, 8, 1, 4), (6, 1)),
        broken=add((1, 8, 6, 4), (2, 6, 4)),
        fact="1x8x6x4 and 2x6x4 do not fit along channel; only the same size or 1",
    ),
    Case(
        NONE,
        held=add(IMAGE, IMAGE),
        broken=add(IMAGE, (1, 8, 1, 1)),
        fact="1x8x6x4 and 1x8x1x1, repeated along width; only",
    ),
    Case(NONE, held=add(IMAGE, floats(8, 1, 1)), broken=add(("n", 8, 6, 4), (8, 1, 4)), fact="only the same shape"),
    Case(
        CHANNEL, held=add(IMAGE, (1, 1, 6, 4)), broken=add(IMAGE, (1, 8, 1, 4)), fact="along height; only along channel"
    ),
    Case(
        CHANNEL,
        held=partial(node, "MatMul", (1, 8, 6, 4), (1, 1, 4, 6)),
        broken=partial(node, "MatMul", (2, 8, 6, 4), (1, 8, 4, 6)),
        fact="repeated along axis -4; only along channel",
    ),
    Case(CHANNEL, held=gemm((2, 10)), broken=gemm((10,)), fact="10 and 2x10, repeated along height"),
    Case(
        {"kind": "broadcast_in", "axes": ["batch"]},
        held=add((2, 8, 6, 4), IMAGE),
        broken=add((2, 6, 4), (6, 4)),
        fact="channel",
    ),
    Case(
        ABOVE_WIDTH, held=add(IMAGE, (1, 1, 1, 4)), broken=add(IMAGE, (1, 8, 6, 1)), fact="along width; not along width"
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_either_side_of_the_border(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        (NONE, add(("n", 8), (1, 8))),
        (NONE, partial(Node, "add", "Add", (Value("a"), Value("b")), (Value("c"),))),
        (NONE, add(("n", 8), ("m", 8))),
        ({"kind": "broadcastable"}, add(("n", 8), ("m", 8))),
        ({"kind": "broadcastable"}, add(("n", 8), (2, 8))),
        (BIAS, gemm((None,))),
    ],
)
def test_sizes_that_are_not_told_decide_where_nothing_else_does(said: dict[str, Any], asked: partial[Node]) -> None:
    with pytest.raises(NotKnown):
        limit(said).broken(asked())


@pytest.mark.parametrize("said", [NONE, CHANNEL, ABOVE_WIDTH, {"kind": "broadcastable"}])
def test_one_dynamic_size_is_the_same_in_both_operands(said: dict[str, Any]) -> None:
    assert limit(said).broken(node("Add", ("n", 8), ("n", 8))) is None


@pytest.mark.parametrize("said", [NONE, CHANNEL, ABOVE_WIDTH])
def test_a_constant_operand_is_not_broadcasting_whatever_the_other_ones_shape(said: dict[str, Any]) -> None:
    assert limit(said).broken(node("Add", (None, 8), floats(8))) is None
