"""Older opsets: each operator whose form changed computes the same in its older form, and what has none is named."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torchvision
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from zoo.config import MIN_OPSET
from zoo.errors import StepError
from zoo.onnx import conventional, exporting, opsets, parity
from zoo.onnx.older_forms import ADAPTERS, REDUCTIONS
from zoo.onnx.session import Session

SHAPE = (2, 4, 6, 5)
KEY = "pkg.torch.onnx.name_scopes"


def model(
    operator: str,
    constants: Sequence[Any] = (),
    *,
    shape: tuple[int, ...] = SHAPE,
    outputs: int = 1,
    kind: int = TensorProto.FLOAT,
    opset: int = 18,
    **attributes: Any,
) -> onnx.ModelProto:
    """One node that reads ``input`` and constants, None where one is left out; its first output is cast to float."""
    named = [
        None if each is None else numpy_helper.from_array(np.asarray(each), f"c{at}")
        for at, each in enumerate(constants)
    ]
    inputs = ["x", *("" if each is None else each.name for each in named)]
    node = helper.make_node(operator, inputs, [f"y{at}" for at in range(outputs)], name="the_node", **attributes)
    node.metadata_props.add(key=KEY, value="['block.0', 'operator']")
    last = [helper.make_node("Cast", [f"y{at}"], [f"out{at}"], to=TensorProto.FLOAT) for at in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node("Cast", ["input"], ["x"], to=kind), node, *last],
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"out{at}", TensorProto.FLOAT, None) for at in range(outputs)],
        [each for each in named if each is not None],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def axes(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


ROI = np.zeros(0, np.float32)
FACTORS = np.array([1, 1, 2, 3], np.float32)
CASES = {
    **{f"{name} over axes": model(name, [axes(1, -1)], keepdims=0) for name in REDUCTIONS},
    **{f"{name} over all": model(name) for name in REDUCTIONS},
    "ReduceSum of nothing": model("ReduceSum", noop_with_empty_axes=1),
    "Squeeze": model("Squeeze", [axes(1)], shape=(2, 1, 3)),
    "Squeeze all": model("Squeeze", shape=(2, 1, 3)),
    "Unsqueeze": model("Unsqueeze", [axes(0, -1)]),
    "Split by sizes": model("Split", [axes(1, 3)], outputs=2, axis=1),
    "Split in parts": model("Split", outputs=2, axis=1, num_outputs=2),
    "Split in unequal parts": model("Split", outputs=2, axis=3, num_outputs=2),
    **{f"{name} of the last axis": model(name) for name in ("Softmax", "LogSoftmax", "Hardmax")},
    **{f"{name} of axis 1": model(name, axis=1) for name in ("Softmax", "LogSoftmax", "Hardmax")},
    "Resize by factors": model("Resize", [None, FACTORS], mode="linear"),
    "Resize to sizes": model("Resize", [None, None, axes(2, 4, 9, 7)], coordinate_transformation_mode="align_corners"),
    "Resize all said": model("Resize", [ROI, FACTORS], antialias=0, keep_aspect_ratio_policy="stretch"),
    "Pad some axes": model("Pad", [axes(1, 2, 0, 1), np.float32(0.5), axes(2, -1)]),
    "Pad all axes": model("Pad", [axes(0, 0, 1, 2, 0, 0, 0, 1)], mode="reflect"),
    "Reshape": model("Reshape", [axes(2, -1)], allowzero=1),
    "Reshape that copies": model("Reshape", [axes(0, -1)]),
    "Shape": model("Shape"),
    "Shape in part": model("Shape", start=1, end=-1),
    "Shape from the end": model("Shape", start=-2),
    "CastLike": model("CastLike", [axes(1)]),
    "HardSwish": model("HardSwish"),
    "Mish": model("Mish"),
    "GreaterOrEqual": model("GreaterOrEqual", [np.float32(0)]),
    "LessOrEqual": model("LessOrEqual", [np.float32(0)]),
    "LayerNormalization": model("LayerNormalization", [np.float32([1, 2, 3, 4, 5]), np.ones(5, np.float32)]),
    "LayerNormalization of two axes": model(
        "LayerNormalization", [np.full((6, 5), 2, np.float32)], axis=2, epsilon=0.01
    ),
    "ArgMax": model("ArgMax", axis=1, select_last_index=0),
    "Clip": model("Clip", [np.float32(-0.5), np.float32(0.5)]),
    "Relu": model("Relu"),
    "Constant": model("Add", [np.float32(1)]),
}  # fmt: skip


@pytest.mark.parametrize("opset", range(MIN_OPSET, 18))
@pytest.mark.parametrize("case", CASES)
def test_an_operator_computes_the_same_in_an_older_opset(case: str, opset: int) -> None:
    now = CASES[case]
    before = now.SerializeToString()
    older = opsets.lower(now, opset)
    assert now.SerializeToString() == before
    exporting.check(older)
    assert opsets.opset_of(older) == opset
    shape = [dim.dim_value for dim in now.graph.input[0].type.tensor_type.shape.dim]
    pixels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for expected, found in zip(Session(now).run(pixels), Session(older).run(pixels), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_every_adapter_is_tried() -> None:
    tried = {node.op_type for case in CASES.values() for node in case.graph.node}
    assert ADAPTERS.keys() - tried == {"Constant"}  # tried below, of its own kinds of value


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("value_int", 3, np.int64),
        ("value_ints", [1, 2], np.int64),
        ("value_float", 0.5, np.float32),
        ("value_floats", [0.5, 2.0], np.float32),
    ],
)
def test_a_constant_becomes_a_tensor(name: str, value: Any, kind: type) -> None:
    now = model("Relu")
    now.graph.node.insert(0, helper.make_node("Constant", [], ["constant"], **{name: value}))
    now.graph.output.append(helper.make_empty_tensor_value_info("constant"))
    older = opsets.lower(now, 11)
    exporting.check(older)
    np.testing.assert_array_equal(Session(older).run(np.zeros(SHAPE, np.float32))[1], np.array(value, kind))


def test_new_nodes_have_the_metadata_of_what_they_stand_for_and_names_of_their_own() -> None:
    older = opsets.lower(CASES["LayerNormalization"], 11)
    made = [node for node in older.graph.node if node.metadata_props]
    assert [node.op_type for node in made] == [
        "ReduceMean", "Sub", "Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul", "Add",
    ]  # fmt: skip
    assert {node.metadata_props[0].value for node in made} == {"['block.0', 'operator']"}
    assert len({node.name for node in made}) == len(made)
    assert made[-1].name == "the_node"
    assert not [tensor.name for tensor in older.graph.initializer if "axes" in tensor.name]  # attributes by now


@pytest.mark.parametrize(
    ("case", "opset", "fact"),
    [
        (model("Trilu"), 13, r"opset 13: Trilu is new in opset 14"),
        (model("Einsum", equation="abcd->abdc"), 11, r"opset 11: Einsum is new in opset 12"),
        (model("BitwiseNot", kind=TensorProto.INT32), 17, r"opset 17: BitwiseNot is new in opset 18"),
        (model("Celu", alpha=2.0), 11, r"opset 11: Celu is new in opset 12"),
        (model("ArgMax", axis=1, select_last_index=1), 11, r"ArgMax has select_last_index=1"),
        (model("Resize", [None, FACTORS], mode="linear", antialias=1), 17, r"Resize has antialias=1"),
        (model("Reshape", [axes(0, 4)], shape=(0, 4), allowzero=1), 13, r"Reshape makes an empty tensor"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_one_line_with_operator_and_opset(
    case: onnx.ModelProto, opset: int, fact: str
) -> None:
    with pytest.raises(StepError, match=fact) as caught:
        opsets.lower(case, opset)
    assert "\n" not in str(caught.value)
    assert "set export.opset to a later one" in str(caught.value)


def test_axes_that_are_computed_control_flow_and_functions_are_refused() -> None:
    computed = model("ReduceMax", [axes(1)])
    computed.graph.node.insert(1, helper.make_node("Neg", ["c0"], ["axes"]))
    computed.graph.node[2].input[1] = "axes"
    with pytest.raises(StepError, match="ReduceMax computes its input 1"):
        opsets.lower(computed, 13)
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["z"])], "b", [], [helper.make_empty_tensor_value_info("z")]
    )
    flow = model("Relu")
    flow.graph.node.insert(1, helper.make_node("If", ["c"], ["z2"], then_branch=branch, else_branch=branch))
    with pytest.raises(StepError, match="opset 13: If has a graph of its own inside"):
        opsets.lower(flow, 13)
    function = model("Relu")
    function.functions.append(helper.make_function("d", "F", ["a"], ["b"], [], [helper.make_opsetid("", 18)]))
    with pytest.raises(StepError, match="F is a function of the model's own"):
        opsets.lower(function, 13)


def test_a_type_that_the_older_operator_does_not_take_is_refused_by_name() -> None:
    whole = model("Max", [axes(3)], kind=TensorProto.INT64)
    with pytest.raises(StepError, match=r"not valid: .*Max"):
        exporting.check(opsets.lower(whole, 11))


class Pooled(nn.Module):
    def __init__(self, keepdim: bool) -> None:
        super().__init__()
        self.keepdim = keepdim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3), keepdim=self.keepdim).reshape(len(x), 3)


@pytest.mark.parametrize("keepdim", [True, False])
def test_a_mean_over_the_plane_is_a_pool(keepdim: bool) -> None:
    images = torch.randn(3, 3, 8, 8)
    exported = exporting.export(Pooled(keepdim), images[:1], opset=18)
    assert exported.graph.node[0].op_type == "GlobalAveragePool"
    assert all(node.metadata_props for node in exported.graph.node)
    assert not [a for node in exported.graph.node for a in node.attribute if a.name == "allowzero"]
    assert parity.compare(Pooled(keepdim), exported, images).relative < 1e-6


@pytest.mark.parametrize(
    "case",
    [
        model("ReduceMean", [axes(1, 2)], keepdims=1),
        model("ReduceMean", [axes(1, 2)], shape=(2, 3, 4)),
        model("ReduceMean"),
        model("Reshape", [axes(0, 4)], shape=(0, 4), allowzero=1),
    ],
)
def test_what_only_looks_like_it_stays(case: onnx.ModelProto) -> None:
    assert list(conventional.write(case).graph.node) == list(case.graph.node)


def test_the_ir_version_is_the_opsets_and_no_target_that_reads_less_is_written_for() -> None:
    image = torch.randn(1, 3, 8, 8)
    for opset, ir_version in ((11, 6), (13, 7), (17, 8), (18, 8), (19, 9)):
        assert exporting.export(Pooled(True), image, opset=opset, ir_version=9).ir_version == ir_version
    with pytest.raises(StepError, match="up to version 8, opset 19 needs 9; set"):
        exporting.export(Pooled(True), image, opset=19, ir_version=8)


class Out(nn.Module):
    """The one tensor of a segmenter."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)["out"]


REAL = {
    "mobilenet_v3_small": lambda: torchvision.models.mobilenet_v3_small(weights=None),
    "resnet18": lambda: torchvision.models.resnet18(weights=None),
    "swin_t": lambda: torchvision.models.swin_t(weights=None),
    "deeplabv3_mobilenet_v3_large": lambda: Out(
        torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_models_are_the_same_in_older_opsets(name: str) -> None:
    network, images = REAL[name]().eval(), torch.randn(2, 3, 64, 64)
    exported = exporting.export(network, images[:1], opset=18)
    for opset in (11, 13, 17):
        older = opsets.lower(exported, opset)
        exporting.check(older)
        assert all(node.metadata_props for node in older.graph.node)
        parity.require(parity.compare(network, older, images), network, older, images, 1e-4)
