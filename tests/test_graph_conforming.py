"""Nodes that are not what ONNX says of their operator: refused in one line that names node, fault and cure."""

from collections.abc import Sequence
from typing import Any

import pytest
from onnx import NodeProto, TensorProto, helper
from small_graphs import model, node, tensor, value

from zoo.errors import UnreadableModel
from zoo.graph.reading import read

RELU = node("Relu")


@pytest.mark.parametrize(
    ("nodes", "fact"),
    [
        ([node("Gather", "", "g"), RELU], "'Gather_0' (Gather of opset 18) has 0 of at least 2 inputs"),
        ([node("Shape", "x", "s"), node("Gather", "s", "g"), RELU], "has 1 of at least 2 inputs"),
        ([node("Shape", "x", "s"), node("Gather", "s i", ""), RELU], "has 0 of at least 1 outputs"),
        ([node("Shape", "x", ""), RELU], "has 0 of at least 1 outputs"),
        ([node("Identity", "i", ""), RELU], "has 0 of at least 1 outputs"),
        ([node("Identity", "- i", "z"), RELU], "leaves out its input 0, input"),
        ([node("Constant", "", "", value_float=1.0), RELU], "has 0 of at least 1 outputs"),
        ([helper.make_node("Constant", [], [""], value_float=1.0), RELU], "leaves out its output 0, output"),
        ([node("Reshape", "- i")], "leaves out its input 0, data"),
        ([node("Concat", "x x")], "has no attribute 'axis'"),
        ([node("Concat", "x x", axis=[1])], "has the attribute 'axis' as INTS, which is INT in ONNX"),
        ([node("Transpose", perm=3)], "has the attribute 'perm' as INT, which is INTS in ONNX"),
        ([node("HardSigmoid", alpha="a")], "has the attribute 'alpha' as STRING, which is FLOAT in ONNX"),
        ([node("MaxPool", kernel_shape=3)], "has the attribute 'kernel_shape' as INT, which is INTS in ONNX"),
    ],
)
def test_nodes_that_onnx_does_not_know(nodes: Sequence[NodeProto], fact: str) -> None:
    with pytest.raises(UnreadableModel) as caught:
        read(model(nodes, [tensor("i", [1])]))
    said = str(caught.value)
    assert fact in said
    assert said.startswith("the model: node '")
    assert said.endswith("; export the model again")
    assert "\n" not in said


def test_nodes_in_branches_are_looked_at() -> None:
    branch = helper.make_graph([node("Transpose", "x", "t", perm=1)], "branch", [], [value("t")])
    nodes = [
        node("ReduceMax", "x", "most", keepdims=0),
        node("Cast", "most", "on", to=TensorProto.BOOL),
        node("If", "on", then_branch=branch, else_branch=branch),
    ]
    with pytest.raises(UnreadableModel, match="'perm' as INT"):
        read(model(nodes))


@pytest.mark.parametrize(
    ("made", "opset"),
    [
        (node("Resize", "x - scales", mode="nearest"), 11),  # exporters left the region out before it was optional
        (node("Frobnicate", perm=1), 18),
        (node("Relu", "x i", slope=1), 18),  # more than there is
        (node("Softmax", axis=1), 999),
        (node("Softmax", axis=1), 2**62),
        (node("Gelu"), 13),  # not yet an operator
    ],
)
def test_what_is_beyond_a_schema_is_read(made: Any, opset: int) -> None:
    weights = [tensor("scales", [1, 1, 2, 2], "float32"), tensor("i", [1])]
    assert read(model([made], weights, opset=opset)).nodes[-1].op == made.op_type
