"""Export: valid ONNX that computes what PyTorch computes, says what it is, and holds no trace of the machine."""

import copy
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small_build import LABELS, NAME, ORIGIN, SIZE, SmallBuild
from torch import nn

from zoo.cost import cost
from zoo.errors import StepError
from zoo.onnx import exporting, metadata, parity, simplifying
from zoo.onnx.latency import measure, speed_up
from zoo.onnx.session import Session


class Tiny(nn.Module):
    """Two blocks whose paths can be told apart."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    torch.manual_seed(0)
    return Tiny().eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def exported(tiny: Tiny, images: torch.Tensor) -> onnx.ModelProto:
    return exporting.export(tiny, images[:1], opset=18)


def test_the_same_model_gives_the_same_bytes(tiny: Tiny, images: torch.Tensor, exported: onnx.ModelProto) -> None:
    again = exporting.export(copy.deepcopy(tiny), images[:1], opset=18)
    assert again.SerializeToString(deterministic=True) == exported.SerializeToString(deterministic=True)


def test_nodes_keep_their_module_and_no_path_of_the_machine(exported: onnx.ModelProto) -> None:
    text = str(exported)
    assert "site-packages" not in text
    assert str(Path(__file__).parent) not in text
    assert ".py" not in text
    scopes = [p.value for node in exported.graph.node for p in node.metadata_props if p.key.endswith("name_scopes")]
    assert any("second.2" in scope for scope in scopes)


def test_static_batch_is_one_and_dynamic_batch_is_free(tiny: Tiny, images: torch.Tensor) -> None:
    dynamic = exporting.export(tiny, images[:1], opset=18, dynamic_batch=True)
    found = parity.compare(tiny, dynamic, images, batch=4)  # four, then two
    assert found.relative < 1e-5
    assert found.images == found.same_top1 == 6


def test_an_opset_that_cannot_be_written_is_refused_not_replaced(tiny: Tiny, images: torch.Tensor) -> None:
    with pytest.raises(StepError, match=r"opset 99.*stayed at \d+; set export\.opset to"):
        exporting.export(tiny, images[:1], opset=99)


def test_a_model_that_cannot_be_exported_is_named_in_one_line(images: torch.Tensor) -> None:
    class Dependent(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(StepError, match="cannot be exported to ONNX") as caught:
        exporting.export(Dependent(), images[:1], opset=18)
    assert "\n" not in str(caught.value)


def test_a_difference_names_the_first_module(tiny: Tiny, images: torch.Tensor, exported: onnx.ModelProto) -> None:
    assert parity.first_difference(tiny, exported, images[:1], 1e-4) is None
    wrong = copy.deepcopy(tiny)
    with torch.no_grad():
        wrong.second[1].bias += 1.0
    found = parity.compare(wrong, exported, images)
    assert found.absolute > 0.01
    with pytest.raises(StepError, match=r"differs from PyTorch.*tolerance is 0\.001.*'second\.1'"):
        parity.require(found, wrong, exported, images, 1e-3)


def test_nan_is_never_within_tolerance(tiny: Tiny, images: torch.Tensor, exported: onnx.ModelProto) -> None:
    found = parity.difference([torch.zeros(2, 3)], [torch.full((2, 3), torch.nan)])
    with pytest.raises(StepError, match="nan"):
        parity.require(found, tiny, exported, images, 1e9)


def test_simplification_is_believed_only_where_outputs_stay_equal(
    tiny: Tiny, images: torch.Tensor, exported: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_relu(model: onnx.ModelProto) -> onnx.ModelProto:
        other = copy.deepcopy(model)
        relu = next(node for node in other.graph.node if node.op_type == "Relu")
        other.graph.node.remove(relu)
        for node in other.graph.node:
            node.input[:] = [relu.input[0] if name == relu.output[0] else name for name in node.input]
        return other

    monkeypatch.setattr(simplifying, "_slim", without_relu)
    found = simplifying.simplify(exported, images)
    assert found.model is exported
    assert "changes the outputs" in found.reason

    def fail(model: onnx.ModelProto) -> onnx.ModelProto:
        raise IndexError("no such\nnode")

    monkeypatch.setattr(simplifying, "_slim", fail)
    found = simplifying.simplify(exported, images)
    assert (found.simplified, found.reason) == (False, "onnxslim failed: IndexError: no such node")


def test_simplification_removes_what_does_nothing_and_keeps_the_module_paths(images: torch.Tensor) -> None:
    class Pooled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3)) * 2

    plain = exporting.export(Pooled(), images[:1], opset=18)
    padded = copy.deepcopy(plain)
    last = padded.graph.node[-1]
    last.output[0] = "before_identity"
    padded.graph.node.append(onnx.helper.make_node("Identity", ["before_identity"], ["output"], name="idle"))
    found = simplifying.simplify(padded, images)
    assert found.simplified
    assert len(found.model.graph.node) == len(plain.graph.node)
    assert all(node.metadata_props for node in found.model.graph.node)


def test_macs_are_half_the_flops_and_parameters_are_counted(tiny: Tiny, images: torch.Tensor) -> None:
    found = cost(tiny, images[:1])
    assert found.macs == 7 * 7 * 4 * 27 + 3 * 3 * 8 * 36 + 8 * 5
    assert found.parameters == sum(p.numel() for p in tiny.parameters())


def test_latency_alternates_both_models(exported: onnx.ModelProto, images: torch.Tensor) -> None:
    calls: list[str] = []

    class Noted(Session):
        def __init__(self, name: str) -> None:
            super().__init__(exported)
            self.name = name

        def run(self, pixels: np.ndarray) -> np.ndarray:
            calls.append(self.name)
            return super().run(pixels)

    found = measure(Noted("source"), Noted("lite"), images[:1], threads=1)
    assert calls == ["source", "lite"] * (len(calls) // 2)
    assert 20 <= found.rounds <= 100
    assert 0 < found.lite.first_quartile_ms <= found.lite.median_ms <= found.lite.third_quartile_ms
    assert found.threads == 1


def test_the_speed_up_is_the_median_of_the_rounds_ratios() -> None:
    # One model measured twice while the machine slows down, an outlier in one of the rounds.
    assert speed_up([1.0, 1.0, 9.0, 9.0, 9.0], [1.0, 1.0, 1.0, 9.0, 9.0]) == 1.0
    assert speed_up([2.0, 30.0, 8.0], [1.0, 10.0, 8.0]) == 2.0  # medians' ratio: 1.0


def test_the_step_leaves_files_that_describe_themselves(small_build: SmallBuild) -> None:
    folder = small_build.folder("export")
    report = json.loads((folder / "export.json").read_bytes())
    for file, name, which in (("model.onnx", NAME, "lite"), ("source.onnx", "mobilenet_v3_small", "source")):
        model = onnx.load(folder / file)
        about = metadata.read(model)
        assert about["name"] == name
        assert about["source"] == "torchvision/mobilenet_v3_small"
        assert json.loads(about["labels"]) == list(LABELS)
        assert json.loads(about["input"]) == {
            "layout": "NCHW",
            "channels": "RGB",
            "size": [SIZE, SIZE],
            "geometry": "crop",
            "resize": SIZE,
            "interpolation": "bilinear",
            "mean": list(ORIGIN.preprocessing.mean),
            "std": list(ORIGIN.preprocessing.std),
        }
        assert json.loads(about["licences"]) == ORIGIN.licences.model_dump()
        assert about["plan_fingerprint"] == report[which]["fingerprint"]
        assert about["weights_sha256"] == report[which]["weights_sha256"]
        assert report[which]["parity"]["relative"] <= report["tolerance"]
        assert report[which]["parity"]["images"] == len(LABELS)
        assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, SIZE, SIZE]
        assert str(small_build.root) not in str(model)
        session = onnxruntime.InferenceSession(folder / file, providers=["CPUExecutionProvider"])
        assert session.run(None, {"input": np.zeros((1, 3, SIZE, SIZE), np.float32)})[0].shape == (1, len(LABELS))
    assert report["lite"]["cost"]["macs"] < report["source"]["cost"]["macs"]
    assert report["lite"]["cost"]["parameters"] < report["source"]["cost"]["parameters"]
    assert report["latency"]["speed_up"] > 0
