"""The torch layers that nodes come from, as PyTorch's exporters write them down."""

import ast
import warnings
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import NodeProto, helper
from small_graphs import model, node, value, weight
from torch import Tensor, nn

from zoo.graph.origins import CLASSES, SCOPES
from zoo.graph.reading import read
from zoo.graph.view import Graph
from zoo.onnx.exporting import KEPT_NODE_METADATA, export

Told = dict[str, tuple[str | None, str | None]]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.Hardswish())
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.block(x)) * 2


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.features = nn.Sequential(nn.Sequential(Block(), nn.ReLU()))

    def forward(self, x: Tensor) -> Tensor:
        return self.features(self.stem(x)).flatten(1)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def exported(net: nn.Module) -> onnx.ModelProto:
    return export(net, torch.rand(1, 3, 10, 10), opset=18)


def origins(graph: Graph) -> Told:
    return {each.op: (each.module, each.torch_op) for each in graph.nodes if not each.folded}


def test_our_own_export_tells_the_layers(net: nn.Module, exported: onnx.ModelProto) -> None:
    graph = read(exported)
    assert KEPT_NODE_METADATA == (CLASSES, SCOPES)
    convolutions = [(each.module, each.torch_op) for each in graph.nodes if each.op == "Conv"]
    # the second carries the name of the normalisation that the exporter folded into it
    assert convolutions == [("stem", "conv2d"), ("features.0.0.block.0", "conv2d")]
    assert origins(graph) == {
        "Conv": ("features.0.0.block.0", "conv2d"),
        "HardSwish": ("features.0.0.block.2", "hardswish"),
        "ConvTranspose": ("features.0.0.up", "convolution"),
        "Mul": ("features.0.0", "mul"),
        "Relu": ("features.0.1", "relu"),
        "Reshape": ("", "view"),
    }
    paths = {name for name, _ in net.named_modules()}
    assert {each.module for each in graph.nodes} <= paths


def test_a_dynamic_export_has_known_costs(net: nn.Module, exported: onnx.ModelProto) -> None:
    fixed = read(exported)
    dynamic = read(export(net, torch.rand(1, 3, 10, 10), opset=18, dynamic_batch=True))
    assert sum(each.macs or 0 for each in fixed.nodes) > 0
    assert sum(each.macs or 0 for each in dynamic.nodes) == sum(each.macs or 0 for each in fixed.nodes)
    assert dynamic.outputs[0].dims == fixed.outputs[0].dims


def test_the_older_exporter_tells_the_layers(net: nn.Module, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.rand(1, 3, 10, 10),), tmp_path / "m.onnx", dynamo=False, opset_version=17)
    graph = read(tmp_path / "m.onnx")
    assert origins(graph) == {
        "Conv": ("features.0.0.block.0", None),
        "HardSwish": ("features.0.0.block.2", None),
        "ConvTranspose": ("features.0.0.up", None),
        "Mul": ("features.0.0", None),
        "Relu": ("features.0.1", None),
        "Flatten": ("", None),
    }


def test_a_simplified_model_tells_what_its_weights_do(exported: onnx.ModelProto) -> None:
    content = onnx.ModelProto()
    content.CopyFrom(exported)
    for each in content.graph.node:
        del each.metadata_props[:]
    found = origins(read(content))
    assert found["ConvTranspose"] == ("features.0.0.up", None)
    assert found["HardSwish"] == (None, None)


def described(made: NodeProto, **metadata: str) -> Any:
    for key, text in metadata.items():
        made.metadata_props.add(key={"classes": CLASSES, "scopes": SCOPES}[key], value=text)
    found = read(model([made])).nodes[0]
    return found.module, found.torch_op


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, (None, None)),
        ({"scopes": "['', 'a', 'a.b', 'relu']", "classes": "['N', 'A', 'B', 'aten.relu.default']"}, ("a.b", "relu")),
        ({"scopes": "['', 'relu']", "classes": "['N', 'aten.relu_.default']"}, ("", "relu_")),
        ({"scopes": "['relu']"}, ("", None)),
        ({"scopes": "['', 'a', 'f']", "classes": "['N', 'A', 'builtin.getitem']"}, ("a", None)),
        ({"scopes": "not Python", "classes": "['aten.relu.default']"}, (None, None)),
        ({"scopes": "__import__('os').getcwd()"}, (None, None)),
        ({"scopes": "[1, 2]"}, (None, None)),
        ({"scopes": "[" * 5000}, (None, None)),
        ({"scopes": str(["x"] * 5000)}, (None, None)),
    ],
)
def test_metadata_of_every_form(metadata: dict[str, str], expected: tuple[Any, Any]) -> None:
    assert described(node("Relu"), **metadata) == expected


def test_long_metadata_are_lists_of_text() -> None:
    assert len(ast.literal_eval(str(["x"] * 5000))) == 5000  # so the last of them is refused for its length alone


@pytest.mark.parametrize(
    ("name", "producer", "expected"),
    [
        ("/features/features.0/features.0.1/Relu", "pytorch", "features.0.1"),
        ("/model.22/cv2.0/cv2.0.1/act/Relu_1", "pytorch", "model.22.cv2.0.1.act"),
        ("/Relu", "pytorch", ""),
        ("/features/features.0/Add", "pytorch", None),
        ("features/Relu", "pytorch", None),
        ("/features/Relu", "another", None),
    ],
)
def test_names_of_the_older_exporter(name: str, producer: str, expected: str | None) -> None:
    content = model([node("Relu", name=name)], producer_name=producer)
    assert read(content).nodes[0].module == expected


def test_a_name_in_a_branch() -> None:
    branches = [helper.make_graph([node("Relu", "x", "out", name="/a/b/Relu")], "g", [], [value("out")]) for _ in "12"]
    choice = node("If", "on", "y", name="/a/If", then_branch=branches[0], else_branch=branches[1])
    inputs = [value("x", (1,)), value("on", (), onnx.TensorProto.BOOL)]
    graph = read(model([choice], inputs=inputs, producer_name="pytorch"))
    assert [each.module for each in graph.nodes] == ["a.b", "a.b", "a"]
    assert len({each.name for each in graph.nodes}) == 3


def test_a_weight_tells_its_layer_only_in_a_file_of_pytorch() -> None:
    nodes, weights = [node("Conv", "x a.b.weight")], [weight("a.b.weight", 4, 3, 1, 1)]
    assert read(model(nodes, weights, producer_name="pytorch")).nodes[0].module == "a.b"
    assert read(model(nodes, weights)).nodes[0].module is None
