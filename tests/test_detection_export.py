"""From a detector to ONNX, to a description of its head and to what zoo.load returns."""

import copy
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

import surgery
from zoo.config import Preprocessing
from zoo.cost import cost
from zoo.detection import deploying, suppression, tidl_prototxt
from zoo.detection.decoding import Decoded
from zoo.detection.detector import Detector
from zoo.detection.fusing import fused
from zoo.detection.heads import FAMILIES, convolutions, head_of
from zoo.detection.suppression import EVALUATION, PREDICTION, Candidates, Limits, candidates, detections
from zoo.errors import StepError
from zoo.graph.reading import read
from zoo.linting.lint import lint
from zoo.linting.report import Verdict
from zoo.onnx import exporting, opsets, parity
from zoo.onnx.session import Session
from zoo.origin import Licences, Origin
from zoo.preprocess import Transform, placement
from zoo.recipe import Export
from zoo.sources import mmyolo
from zoo.steps.export import export_model
from zoo.targets import reading

if not all(mmyolo.find_spec(name) for name in ("mmyolo", "mmdet", "mmcv")):
    pytest.skip("mmyolo is an extra", allow_module_level=True)

RECIPES = Path(__file__).parents[1] / "recipes" / "mmyolo"
CONFIGS = {
    file.stem.removesuffix("_lite"): yaml.safe_load(file.read_text())["source"]["config"]
    for file in sorted(RECIPES.glob("*.yaml"))
}
NAMES = (
    *("ppyoloe_plus_s", "rtmdet_tiny", "yolov5_n", "yolov5_s", "yolov6_n", "yolov7_tiny", "yolov8_n", "yolov8_s"),
    *("yolox_nano", "yolox_tiny"),
)
QUICK = ("yolov5_n", "yolov8_n", "yolox_nano")  # one of each encoding
IN_BRANCHES = ("ppyoloe_plus_s", "yolov6_n", "yolov7_tiny")
SIZE, LABELS = 192, tuple("0123456789")

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{message}")
    # of mmcv, mmdet and mmyolo at import, and of torchvision where its suppression is exported
    for message in (
        ".torch.cuda.amp.autocast",
        "torch.meshgrid. in an upcoming",
        ".create_unbacked_symint. is deprecated",
    )
]
every_model = pytest.mark.parametrize("name", NAMES)
# By default the real heads of three families behind one convolution for each level; then every detector as it is.
exported_models = pytest.mark.parametrize(
    ("name", "whole"),
    [*((name, False) for name in QUICK), *(pytest.param(name, True, marks=pytest.mark.slow) for name in NAMES)],
)


@cache
def built(name: str) -> nn.Module:
    """A detector with random weights of a trained one's kind: no layer is zero, scores are spread."""
    torch.manual_seed(0)
    network = mmyolo.build(CONFIGS[name], num_classes=len(LABELS)).eval()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            part.weight.data.uniform_(0.7, 1.3)
            part.bias.data.normal_(0, 0.1)
    return spread(network)


def spread(network: nn.Module) -> nn.Module:
    """Give what predicts random weights with which its outputs vary by one about random biases."""
    for predicting in [
        network.get_submodule(path) for level in range(3) for path in convolutions(network, level).values()
    ]:
        assert isinstance(predicting, nn.Conv2d)
        predicting.bias.data.zero_()
        predicting.weight.data.normal_()
        deviations: list[Tensor] = []
        hook = predicting.register_forward_hook(lambda _module, _inputs, output, to=deviations: to.append(output.std()))
        with torch.no_grad():
            network(inputs(1))
        hook.remove()
        predicting.weight.data /= deviations[0]
        predicting.bias.data.normal_()
    return network


@cache
def lite(name: str) -> nn.Module:
    network, _ = surgery.lite(built(name), "default", example_inputs=(inputs(1),))
    return spread(network.eval())


def inputs(count: int) -> Tensor:
    """Images of large squares: of noise, which averages out, a deep network would make the same at every place."""
    squares = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(squares, size=SIZE)


def origin_of(name: str, size: int = SIZE) -> Origin:
    return Origin(
        library="mmyolo",
        library_version=mmyolo.version(),
        model=CONFIGS[name],
        weights=None,
        task="detection",
        num_classes=len(LABELS),
        labels=LABELS,
        preprocessing=Preprocessing(
            geometry="letterbox", resize=size, size=size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
        ),
        licences=Licences(code="GPL-3.0", weights="trained by this build"),
    )


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def test_the_recipes_are_those_that_are_tested_here() -> None:
    assert tuple(sorted(CONFIGS)) == NAMES
    assert len(NAMES) == 10
    assert {type(built(name).bbox_head).__name__ for name in NAMES} == set(FAMILIES)


# Decoding


@every_model
def test_boxes_and_scores_are_mmyolo_s_own(name: str) -> None:
    network, images = built(name), inputs(2)
    head = network.bbox_head
    with torch.inference_mode():
        boxes, scores = Decoded(network, SIZE)(images)
        predictions = network(images)
        shapes = [level.shape[2:] for level in predictions[0]]
        priors = torch.cat(head.prior_generator.grid_priors(shapes, device="cpu"))
        strides = [
            torch.full((shape.numel() * head.num_base_priors,), float(stride))
            for shape, stride in zip(shapes, head.featmap_strides, strict=True)
        ]
        encoded = torch.cat([level.permute(0, 2, 3, 1).reshape(2, -1, 4) for level in predictions[1]], 1)
        expected = head.bbox_coder.decode(priors[None], encoded, torch.cat(strides))
    assert boxes.shape == (2, len(priors), 4)
    assert scores.shape == (2, len(priors), len(LABELS))
    assert relative(boxes, expected) < 1e-5
    # mmyolo gives scores from the best to the worst, each with its box, which it cuts off at the image's edges.
    for found, theirs in zip(
        zip(*candidates(boxes, scores), strict=True), in_mmyolo(network, predictions), strict=True
    ):
        assert len(theirs.scores) == scores[0].numel()
        assert torch.allclose(found[1], theirs.scores, rtol=1e-5)
        apart = found[1].diff() < -1e-6  # of equal scores any may be the first
        clear = torch.cat([apart.new_ones(1), apart]) & torch.cat([apart, apart.new_ones(1)])
        assert int(clear.sum()) > 100
        assert torch.equal(found[2][clear], theirs.labels[clear])
        assert relative(found[0].clamp(0, SIZE)[clear], theirs.bboxes[clear]) < 1e-5


def in_mmyolo(network: nn.Module, predictions: Any, limits: Limits | None = None) -> list[Any]:
    """What mmyolo's own head makes of predictions for two images, without suppression where there are no limits."""
    from mmengine.config import ConfigDict

    settings = {"multi_label": True, "nms_pre": 10**6, "score_thr": -1}
    if limits is not None:
        suppress = {"type": "nms", "iou_threshold": limits.iou}
        settings |= {"nms_pre": limits.candidates, "score_thr": limits.score, "nms": suppress}
        settings |= {"max_per_img": limits.most}
    images = [{"ori_shape": (SIZE, SIZE), "scale_factor": (1.0, 1.0)}] * 2
    with torch.inference_mode():
        return network.bbox_head.predict_by_feat(
            *predictions, batch_img_metas=images, cfg=ConfigDict(settings), rescale=False, with_nms=limits is not None
        )


def test_a_lite_detector_is_decoded_too() -> None:
    decoded = Decoded(lite("yolov8_n"), SIZE)
    with torch.inference_mode():
        boxes, scores = decoded(inputs(1))
    assert boxes.shape == (1, 756, 4)
    assert 0 < float(scores.min()) < float(scores.max()) < 1


def test_an_unknown_head_is_named_in_one_line() -> None:
    class OtherHead(nn.Module):
        pass

    network = nn.Module()
    network.bbox_head = OtherHead()
    with pytest.raises(
        StepError, match=r"^Module has the head OtherHead, which cannot be decoded; known heads: YOLOX.*$"
    ):
        Decoded(network, SIZE)
    with pytest.raises(StepError, match=r"^ReLU has no bbox_head, which cannot be decoded"):
        head_of(nn.ReLU())


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(
        StepError, match=r"^input size 200 is no multiple of 32, the detector's largest stride; set inp"
    ):
        Decoded(built("yolov8_n"), 200)
    with pytest.raises(ValueError, match=r"^images of 96x192 pixels, the detector takes 192x192"):
        Decoded(built("yolov8_n"), SIZE)(torch.zeros(1, 3, 96, 192))


# Blocks in branches


@pytest.mark.parametrize("make", [built, lite])
@pytest.mark.parametrize("name", IN_BRANCHES)
def test_branches_are_fused_exactly_and_cost_less(name: str, make: Callable[[str], nn.Module]) -> None:
    network = make(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    single = fused(network)
    assert flattened(single, inputs(1)).dtype == torch.float32
    assert relative(flattened(single, inputs(1)), flattened(network, inputs(1))) < 1e-5
    wide = copy.deepcopy(network).double()
    assert relative(flattened(fused(wide), inputs(1).double()), flattened(wide, inputs(1).double())) < 1e-12
    was, now = cost(network, inputs(1)), cost(single, inputs(1))
    assert now.parameters < was.parameters
    assert now.macs < was.macs or name == "yolov7_tiny"  # which saves additions and products only
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def flattened(network: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([level.flatten() for kind in network(images) for level in kind])


def test_a_detector_without_branches_stays_as_it_is() -> None:
    names = [name for name in NAMES if name not in IN_BRANCHES]
    for name in names:
        assert surgery.fingerprint(fused(built(name))) == surgery.fingerprint(built(name))
    assert len(names) == 7


# Suppression


@every_model
def test_suppression_agrees_with_mmyolo_s_predictions(name: str) -> None:
    network = built(name)
    generator = torch.Generator().manual_seed(3)
    with torch.inference_mode():
        predictions = [[torch.randn(level.shape, generator=generator) for level in kind] for kind in network(inputs(2))]
        boxes, scores = Decoded(network, SIZE).decoder(predictions)
    limits = Limits(score=0.6, iou=0.5, most=50)
    for ours, theirs in zip(detections(boxes, scores, limits), in_mmyolo(network, predictions, limits), strict=True):
        assert 10 < len(ours.scores) <= 50
        assert torch.allclose(ours.scores, theirs.scores, rtol=1e-5)
        assert torch.equal(ours.labels, theirs.labels)
        assert torch.allclose(ours.boxes.clamp(0, SIZE), theirs.bboxes, atol=1e-3)


def test_only_boxes_of_one_class_suppress_each_other() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [1, 1, 11, 11], [50, 50, 60, 60]]])
    scores = torch.tensor([[[0.9, 0.0], [0.8, 0.7], [0.6, 0.0]]])
    (found,) = detections(boxes, scores, Limits(score=0.1, iou=0.5))
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.6])
    assert found.labels.tolist() == [0, 1, 0]
    assert found.boxes.tolist() == [boxes[0, 0].tolist(), boxes[0, 1].tolist(), boxes[0, 2].tolist()]
    (best,) = detections(boxes, scores, Limits(score=0.1, iou=0.5, most=1))
    assert best.scores.tolist() == pytest.approx([0.9])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_box_or_score_that_is_no_number_is_not_found(value: float) -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, value, value], [50, 50, 60, 60]]])
    scores = torch.tensor([[[0.9, 0.0], [0.8, 0.0], [0.0, 0.7], [value, 0.6]]])
    (found,) = detections(boxes, scores, Limits(score=0.1))
    assert found.boxes.tolist() == [boxes[0, 0].tolist(), boxes[0, 3].tolist()]
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])
    corners, best, labels = suppression.suppressed(boxes, scores, Limits(score=0.1, most=4, candidates=8))
    assert corners.tolist() == [*found.boxes.tolist(), [0.0] * 4, [0.0] * 4]
    assert best.tolist() == pytest.approx([0.9, 0.6, 0, 0])
    assert labels.tolist() == [0, 1, -1, -1]


@pytest.mark.parametrize("score", [0.01, 0.95])
@pytest.mark.parametrize("far", [float("inf"), 1e30, 1e9])
def test_a_box_beyond_all_bounds_does_not_keep_the_others_apart(far: float, score: float) -> None:
    boxes = torch.tensor([[*[[0.0, 0, 10, 10]] * 5, [0, 0, far, 5]]])
    scores = torch.tensor([[[0.9], [0.8], [0.7], [0.6], [0.5], [score]]])
    limits = Limits(score=0.1, most=4, candidates=6)
    (found,) = detections(boxes, scores, limits)
    assert found.scores.tolist() == pytest.approx([0.9])
    corners, best, _ = suppression.suppressed(boxes, scores, limits)
    assert best.tolist() == pytest.approx([0.9, 0, 0, 0])
    assert corners[0].tolist() == [0, 0, 10, 10]


def test_where_nothing_is_found_there_are_no_boxes() -> None:
    for found in detections(torch.rand(2, 5, 4), torch.zeros(2, 5, 3)):
        assert found.boxes.shape == (0, 4)
        assert found.scores.shape == found.labels.shape == (0,)
    boxes, scores, labels = suppression.suppressed(torch.rand(1, 5, 4), torch.zeros(1, 5, 3))
    assert boxes.shape == (PREDICTION.most, 4)
    assert not boxes.any()
    assert not scores.any()
    assert (labels == -1).all()


@pytest.mark.parametrize("limits", [PREDICTION, Limits(0.5, 0.3, 20, 200), Limits(0.7, 0.1, 3, 50)])
def test_suppression_of_fixed_shape_finds_the_same(limits: Limits) -> None:
    generator = torch.Generator().manual_seed(2)
    corners = torch.rand(1, 400, 2, generator=generator) * 100 - 20  # some lie outside of the image
    boxes = torch.cat([corners, corners + torch.rand(1, 400, 2, generator=generator) * 60], 2)
    scores = torch.rand(1, 400, 7, generator=generator)
    (expected,) = detections(boxes, scores, limits)
    count = len(expected.scores)
    assert 0 < count <= limits.most
    for found, wanted in zip(
        suppression.suppressed(boxes, scores, limits), (expected.boxes, expected.scores, expected.labels), strict=True
    ):
        assert len(found) == limits.most
        assert torch.equal(found[:count], wanted)


# What is exported


@dataclass(frozen=True)
class Exported:
    """One detector in every form."""

    decoded: nn.Module
    model: onnx.ModelProto
    files: dict[str, str]
    facts: dict[str, Any]
    boundary: frozenset[str]

    @property
    def description(self) -> dict[str, Any]:
        return json.loads(self.files["detection_head.json"])


Exports = Callable[[str, bool], Exported]


class Headed(nn.Module):
    """The head of a detector behind one convolution for each level in place of its backbone and neck."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.bbox_head = network.bbox_head
        with torch.no_grad():
            channels = [level.shape[1] for level in network.extract_feat(inputs(1))]
        self.levels = nn.ModuleList(
            nn.Conv2d(3, count, stride, stride) for count, stride in zip(channels, (8, 16, 32), strict=True)
        )

    def forward(self, images: Tensor) -> Any:
        return self.bbox_head(tuple(level(images) for level in self.levels))


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """Lite models as the export step makes them; each is made once."""
    folder = tmp_path_factory.mktemp("exports")

    @cache
    def make(name: str, whole: bool) -> Exported:
        origin, settings = origin_of(name), Export()
        model = lite(name) if whole else Headed(lite(name))
        decoded = deploying.deployable(model, origin, settings)
        about = {"plan_fingerprint": "", "weights_sha256": ""}
        made = export_model(
            decoded, inputs(3), settings, 18, about, folder / f"{name}.onnx", deploying.outputs(settings)
        )
        files = deploying.descriptions(model, origin, settings, made.model)
        boundary = deploying.host_boundary(model, made.model)
        return Exported(decoded, made.model, dict(files), made.facts, boundary)

    return make


@exported_models
def test_onnx_gives_the_boxes_and_scores_of_pytorch(name: str, whole: bool, exports: Exports) -> None:
    made = exports(name, whole)
    assert [output.name for output in made.model.graph.output] == ["boxes", "scores"]
    assert all(dim.HasField("dim_value") for out in made.model.graph.output for dim in out.type.tensor_type.shape.dim)
    with torch.inference_mode():
        expected = made.decoded(inputs(3))
    for found, wanted in zip(Session(made.model).run_each(inputs(3)), expected, strict=True):
        assert relative(found, wanted) < 1e-3
    assert made.facts["parity"]["relative"] < 1e-3
    assert made.facts["simplified"] or "nothing to simplify" in made.facts["simplification"], made.facts


@exported_models
def test_an_older_opset_gives_the_same(name: str, whole: bool, exports: Exports) -> None:
    made = exports(name, whole)
    for opset in (11, 13, 17):
        older = opsets.lower(made.model, opset)
        exporting.check(older)
        assert parity.compare(made.decoded, older, inputs(2)).relative < 1e-3
        assert made.boundary <= {value for node in older.graph.node for value in node.output}


@exported_models
def test_behind_the_heads_convolutions_all_is_the_hosts(name: str, whole: bool, exports: Exports) -> None:
    made = exports(name, whole)
    assert made.boundary == set(made.description["keep_in_16_bit"])
    target = reading.read("generic_int8")
    report = lint(read(made.model), target, model=name, target_name="generic_int8", host=made.boundary)
    hosts = [node for node in report.nodes if node.verdict is Verdict.HOST]
    assert len(hosts) > 10
    assert "Conv" not in {node.op for node in hosts}
    assert {node.op for node in report.nodes if node.verdict is Verdict.ACCELERATED} >= {"Conv"}
    # Backbone and neck, or the convolutions with large kernels that stand for them: none of them had surgery.
    before_the_head = ("network.levels.", "network.backbone.", "network.neck.")
    assert not [found for found in report.of_severity("error") if not found.module.startswith(before_the_head)]


@exported_models
def test_the_description_alone_is_enough_to_decode(name: str, whole: bool, exports: Exports) -> None:
    made = exports(name, whole)
    about = made.description
    boxes, scores = decoded_by(about, tensors_of(made.model, about["keep_in_16_bit"], inputs(1)))
    with torch.inference_mode():
        expected = made.decoded(inputs(1))
    assert relative(torch.from_numpy(boxes), expected[0].double()) < 1e-4
    assert relative(torch.from_numpy(scores), expected[1].double()) < 1e-4


def tensors_of(model: onnx.ModelProto, names: list[str], images: Tensor) -> dict[str, np.ndarray]:
    """The named tensors, which must be made by the model, as onnxruntime gives them."""
    made = {value for node in model.graph.node for value in node.output}
    assert set(names) <= made
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    del wide.graph.output[:]
    wide.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    return dict(zip(names, Session(wide).run(images.numpy()), strict=True))


def decoded_by(about: dict[str, Any], tensors: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and scores from raw tensors, in numpy, by what detection_head.json says and nothing else."""
    classes, offset, bins = len(about["labels"]), about["boxes"]["offset"], about["boxes"]["bins"]
    all_boxes, all_scores = [], []
    for level in about["levels"]:
        raw = {what: tensors[name].astype(np.float64) for what, name in level["tensors"].items()}
        batch, _, rows, columns = next(iter(raw.values())).shape
        assert [rows, columns] == level["cells"]
        anchors = np.array(level.get("anchors", [[level["stride"]] * 2]))
        if "predictions" in raw:
            assert about["channels"] == "anchor by anchor: 4 of the box, 1 of objectness, then the classes"
            split = raw["predictions"].reshape(batch, len(anchors), 5 + classes, rows, columns)
            raw = {"boxes": split[:, :, :4], "objectness": split[:, :, 4:5], "classes": split[:, :, 5:]}
        per_cell = {
            what: value.reshape(batch, len(anchors), -1, rows, columns).transpose(0, 3, 4, 1, 2)
            for what, value in raw.items()
        }
        numbers = per_cell["boxes"]
        if bins:
            weights = np.exp(numbers.reshape(*numbers.shape[:-1], 4, bins))
            numbers = (weights * np.arange(bins)).sum(-1) / weights.sum(-1)
        row, column = np.mgrid[:rows, :columns][..., None]
        centre = (np.stack([column, row], -1) + offset) * level["stride"]
        all_boxes.append(corners(about["boxes"]["encoding"], numbers, centre, level["stride"], anchors))
        score = sigmoid(per_cell["classes"])
        if about["scores"]["objectness"]:
            score = score * sigmoid(per_cell["objectness"])
        all_scores.append(score)
    return (
        np.concatenate([part.reshape(len(part), -1, 4) for part in all_boxes], 1),
        np.concatenate([part.reshape(len(part), -1, classes) for part in all_scores], 1),
    )


def corners(encoding: str, numbers: np.ndarray, at: np.ndarray, stride: float, anchors: np.ndarray) -> np.ndarray:
    first, second = numbers[..., :2], numbers[..., 2:]
    if encoding == "distances":
        return np.concatenate([at - first * stride, at + second * stride], -1)
    if encoding == "anchors":
        middle, size = at + (2 * sigmoid(first) - 1) * stride, (2 * sigmoid(second)) ** 2 * anchors
    else:
        assert encoding == "centre_and_log_size"
        middle, size = at + first * stride, np.exp(second) * stride
    return np.concatenate([middle - size / 2, middle + size / 2], -1)


def sigmoid(value: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-value))


@exported_models
def test_the_description_says_what_a_runtime_needs(name: str, whole: bool, exports: Exports) -> None:
    about = exports(name, whole).description
    assert about["format"] == 1
    assert about["family"] == re.match("yolov?[0-9x]|rtmdet|ppyoloe", name)[0]
    assert about["input"] == {"name": "input", "size": [SIZE, SIZE]}
    assert about["outputs"] == ["boxes", "scores"]
    assert about["labels"] == list(LABELS)
    assert [level["stride"] for level in about["levels"]] == [8, 16, 32]
    assert about["nms"]["score_threshold"] == PREDICTION.score
    bins = {"yolov8": 16, "ppyoloe": 17}.get(about["family"], 0)
    assert (about["boxes"]["bins"], about["boxes"]["reg_max"]) == (bins, 16 if bins else 0)
    assert len(about["keep_in_16_bit"]) == len(set(about["keep_in_16_bit"])) >= 3
    if about["family"] == "yolov5":
        assert about["levels"][0]["anchors"] == [[10.0, 13.0], [16.0, 30.0], [33.0, 23.0]]


@exported_models
def test_tidl_is_given_its_file_for_the_families_that_it_knows(name: str, whole: bool, exports: Exports) -> None:
    made = exports(name, whole)
    about = made.description
    kind = {"yolox": 6, "yolov5": 6, "yolov7": 6, "yolov8": 8}.get(about["family"])
    if kind is None:
        assert set(made.files) == {"detection_head.json"}
        assert about["tidl"]["file"] is None
        assert about["family"] in about["tidl"]["reason"]
        return
    assert about["tidl"] == {"file": tidl_prototxt.FILE, "meta_arch_type": kind}
    fields = parsed(made.files[tidl_prototxt.FILE])
    ((message,),) = [fields[key] for key in ("tidl_yolo" if kind == 6 else "caffe_ssd",)]
    assert (message["in_width"], message["in_height"]) == (["192"], ["192"])
    assert message["output"] == ['"boxes"', '"scores"']
    (limits,) = message["detection_output_param"]
    assert limits["num_classes"] == ["10"]
    assert limits["nms_param"] == [{"nms_threshold": ["0.65"], "top_k": ["1000"]}]
    assert limits["confidence_threshold"] == ["0.25"]
    levels = about["levels"]
    if kind == 8:
        assert limits["code_type"] == ["CODE_TYPE_DIST2BBOX"]
        assert message["score_converter"] == ["SIGMOID"]
        assert message["box_input"] == [f'"{level["tensors"]["boxes"]}"' for level in levels]
        assert message["class_input"] == [f'"{level["tensors"]["classes"]}"' for level in levels]
        return
    assert len(message["yolo_param"]) == 3
    names = [level["input"][0].strip('"') for level in message["yolo_param"]]
    found = tensors_of(made.model, names, inputs(1))
    if about["family"] == "yolox":
        assert limits["code_type"] == ["CODE_TYPE_YOLO_X"]
        assert [level["anchor_width"] for level in message["yolo_param"]] == [["8.0"], ["16.0"], ["32.0"]]
        raw = tensors_of(made.model, about["keep_in_16_bit"], inputs(1))
        for level, joined in zip(levels, found.values(), strict=True):
            parts = {what: raw[tensor] for what, tensor in level["tensors"].items()}
            wanted = [parts["boxes"], sigmoid(parts["objectness"]), sigmoid(parts["classes"])]
            assert np.allclose(joined, np.concatenate(wanted, 1), atol=1e-6)
    else:
        assert limits["code_type"] == ["CODE_TYPE_YOLO_V5"]
        assert names == [level["tensors"]["predictions"] for level in levels]
        for level, param in zip(levels, message["yolo_param"], strict=True):
            sides = zip(param["anchor_width"], param["anchor_height"], strict=True)
            assert [[float(width), float(height)] for width, height in sides] == level["anchors"]


def parsed(text: str) -> dict[str, list[Any]]:
    """Protocol buffers' text format: every field with the list of its values."""
    fields: dict[str, list[Any]] = {}
    outer = [fields]
    for line in text.splitlines():
        match line.split(maxsplit=1):
            case ["}"]:
                outer.pop()
            case [name, "{"]:
                inner: dict[str, list[Any]] = {}
                outer[-1].setdefault(name, []).append(inner)
                outer.append(inner)
            case [name, value] if name.endswith(":"):
                outer[-1].setdefault(name[:-1], []).append(value)
            case _:
                raise AssertionError(line)
    assert outer == [fields]
    return fields


def test_a_tensor_that_the_graph_has_lost_is_named(exports: Exports) -> None:
    bare = onnx.ModelProto()
    bare.CopyFrom(exports("yolov8_n", False).model)
    for node in bare.graph.node:
        del node.metadata_props[:]
    with pytest.raises(
        StepError, match=r"^detection_head\.json: no node of the ONNX model comes from 'network\.bbox_h"
    ):
        deploying.descriptions(lite("yolov8_n"), origin_of("yolov8_n"), Export(), bare)


def test_a_dynamic_batch_is_decoded_too() -> None:
    origin, settings = origin_of("yolov5_n"), Export(dynamic_batch=True)
    decoded = deploying.deployable(Headed(lite("yolov5_n")), origin, settings)
    exported = exporting.export(decoded, inputs(1), opset=18, dynamic_batch=True, outputs=deploying.outputs(settings))
    assert parity.compare(decoded, exported, inputs(3), batch=2).relative < 1e-4  # two, then one


def test_suppression_can_be_in_the_graph() -> None:
    origin, settings = origin_of("yolov8_n"), Export(nms=True)
    network = Headed(lite("yolov8_n"))
    deployed = deploying.deployable(network, origin, settings)
    assert deploying.outputs(settings) == ("boxes", "scores", "labels")
    exported = exporting.export(deployed, inputs(1), opset=18, outputs=deploying.outputs(settings))
    assert "NonMaxSuppression" in {node.op_type for node in exported.graph.node}
    shapes = [[dim.dim_value for dim in out.type.tensor_type.shape.dim] for out in exported.graph.output]
    assert shapes == [[PREDICTION.most, 4], [PREDICTION.most], [PREDICTION.most]]
    with torch.inference_mode():
        (expected,) = detections(*Decoded(network.eval(), SIZE)(inputs(1)), PREDICTION)
    boxes, scores, labels = Session(exported).run_each(inputs(1))
    assert 10 < len(expected.scores) == int((labels >= 0).sum())
    assert torch.allclose(scores[: len(expected.scores)], expected.scores, rtol=1e-4)
    unclear = 0  # scores that rounding puts in another order, or beyond the last place
    for box, score, label in zip(expected.boxes, expected.scores, expected.labels, strict=True):
        same = (labels == label) & ((scores - score).abs() < 1e-5) & ((boxes - box).abs().amax(1) < 1e-2)
        unclear += not same.any()
    assert unclear <= 1
    assert parity.compare(deployed, exported, inputs(3)).images == 3
    files = deploying.descriptions(network, origin, settings, exported)
    assert json.loads(files["detection_head.json"])["outputs"] == ["boxes", "scores", "labels"]


def test_suppression_of_several_images_is_refused() -> None:
    settings = Export(nms=True, dynamic_batch=True)
    with pytest.raises(StepError, match=r"^export\.nms: .* one image at a time; set export\.dynamic_batch to false$"):
        deploying.deployable(built("yolov8_n"), origin_of("yolov8_n"), settings)


# What is loaded


@pytest.fixture
def detector() -> Detector:
    return deploying.loadable(built("yolov5_n"), origin_of("yolov5_n"))


def test_a_loaded_detector_gives_boxes_scores_and_labels(detector: Detector) -> None:
    with torch.inference_mode():
        found = detector(inputs(2))
    assert isinstance(found, Candidates)
    assert found.boxes.shape == (2, found.scores.shape[1], 4)
    assert found.scores.shape == found.labels.shape
    assert bool((found.scores.diff() <= 0).all())
    assert set(found.labels.flatten().tolist()) == set(range(len(LABELS)))
    assert detector.network is built("yolov5_n")
    assert detector.labels == LABELS
    assert not detector.training


def test_its_postprocess_is_what_is_evaluated(detector: Detector) -> None:
    with torch.inference_mode():
        expected = detections(*Decoded(built("yolov5_n"), SIZE)(inputs(2)))
        found = detector.postprocess(
            detector(inputs(2)), score_threshold=EVALUATION.score, iou_threshold=EVALUATION.iou, most=EVALUATION.most
        )
        usual = detector.postprocess(detector(inputs(2)))
    assert len(found) == 2
    for ours, wanted, few in zip(found, expected, usual, strict=True):
        assert len(ours.scores) == EVALUATION.most
        for field in dataclasses.fields(ours):
            assert torch.equal(getattr(ours, field.name), getattr(wanted, field.name))
        assert 0 < len(few.scores) <= PREDICTION.most
        assert float(few.scores.min()) > PREDICTION.score


@pytest.mark.parametrize(("width", "height"), [(192, 192), (301, 100), (57, 400), (1, 9)])
def test_boxes_lie_in_the_image_as_they_do_in_its_letterbox(detector: Detector, width: int, height: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    found = detector.detect(image)
    with torch.inference_mode():
        (inside,) = detector.postprocess(detector(Transform(detector.preprocessing)(image)[None]))
    assert len(found.scores) == len(inside.scores) > 0
    placed = placement(width, height, detector.preprocessing)
    for (x1, y1, x2, y2), (a1, b1, a2, b2) in zip(found.boxes.tolist(), inside.boxes.tolist(), strict=True):
        for side, value, offset, scale, end in (
            *((x, a, placed.offset[0], placed.scale[0], width) for x, a in ((x1, a1), (x2, a2))),
            *((y, b, placed.offset[1], placed.scale[1], height) for y, b in ((y1, b1), (y2, b2))),
        ):
            assert side == pytest.approx(min(max((value - offset) / scale, 0), end), abs=1e-3)
    told = deploying.predicted(image, detector, origin_of("yolov5_n"))
    assert np.array_equal(told.boxes, found.boxes.numpy())
    assert len(told.findings()) == len(found.scores)


def test_it_is_loaded_where_nothing_for_export_is_installed() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('onnx', 'onnxruntime', 'onnxscript', 'onnxslim'))); "
        "from zoo.detection import deploying; print(deploying.loadable.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "loadable\n"


def test_images_that_are_cropped_have_no_way_back(detector: Detector) -> None:
    detector.preprocessing = Preprocessing(resize=SIZE, size=SIZE, mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(ValueError, match="fitted by 'crop'; boxes are of whole images only"):
        detector.detect(Image.new("RGB", (20, 20)))
