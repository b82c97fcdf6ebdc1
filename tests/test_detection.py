"""Detection: boxes in the letterbox and back, augmentation, targets, and the mean average precision."""

import hashlib
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from torch import Tensor, nn

from zoo import atomic
from zoo.config import Dataset, Preprocessing
from zoo.data import judging
from zoo.data.summary import SUMMARY, read_summary
from zoo.datasets import digit_scenes_detection
from zoo.detection.augmentation import seen
from zoo.detection.evaluation import average_precision
from zoo.detection.images import NOTHING, DetectionSet
from zoo.detection.placing import into_image, into_input
from zoo.detection.suppression import Detections
from zoo.errors import DatasetError
from zoo.layouts import coco
from zoo.layouts.coco import Images
from zoo.preprocess import normalised, placement
from zoo.sources import mmyolo
from zoo.tasks import detection
from zoo.training.images import batches

needs_mmyolo = pytest.mark.skipif(
    not all(mmyolo.find_spec(name) for name in ("mmyolo", "mmdet", "mmcv")), reason="mmyolo is an extra"
)
SMALL = Preprocessing(geometry="letterbox", resize=64, size=64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
WHITE = torch.tensor([255, 255, 255], dtype=torch.uint8).view(3, 1, 1)
LABELS = tuple("0123456789")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six training and five validation images of 96 pixels."""
    folder = tmp_path_factory.mktemp("digits")
    digit_scenes_detection.generate(folder, train=6, val=5, size=96)
    dataset = Dataset(
        description="test", task="detection", layout="coco", generator="digit_scenes_detection", num_classes=10,
        corrupt="skip", mean=SMALL.mean, std=SMALL.std, licence="none",
    )  # fmt: skip
    summary = judging.summarise("digits", dataset, folder, inside=True)
    atomic.write_json(folder / SUMMARY, summary.model_dump(mode="json"))
    return folder


def image_set(
    boxes: tuple[tuple[float, float, float, float], ...] = ((10.0, 20.0, 40.0, 60.0),),
    classes: tuple[int, ...] = (3,),
    crowds: tuple[bool, ...] = (False,),
    size: tuple[int, int] = (100, 80),
    file: Path = Path("none.png"),
) -> Images:
    """One image with these objects."""
    return Images((file,), (7,), (size,), (boxes,), (classes,), (crowds,), tuple(range(10)), Path("instances_val.json"))


def found(boxes: Tensor, labels: Tensor | list[int], scores: Tensor | None = None) -> Detections:
    scores = torch.ones(len(boxes)) if scores is None else scores
    return Detections(boxes, scores, torch.as_tensor(labels, dtype=torch.int64))


# Boxes in the letterbox


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 40))
def test_boxes_survive_the_letterbox_and_back(data: st.DataObject, width: int, height: int, strides: int) -> None:
    side = st.floats(0, 1, width=32)
    corners = data.draw(st.lists(st.tuples(side, side, side, side), max_size=5))
    boxes = torch.tensor(corners).reshape(-1, 4) * torch.tensor([width, height] * 2)
    letterbox = SMALL.model_copy(update={"size": 32 * strides})
    placed = placement(width, height, letterbox)
    inside = into_input(boxes, placed)
    assert bool(((inside >= -1e-3) & (inside <= letterbox.size + 1e-3)).all())
    torch.testing.assert_close(into_image(inside, placed, width, height), boxes, rtol=0, atol=1e-3)


def test_a_box_beyond_the_image_is_cut_off_at_its_edges() -> None:
    boxes = torch.tensor([[-5.0, 0.0, 70.0, 64.0]])
    assert into_image(boxes, placement(100, 50, SMALL), 100, 50).tolist() == [[0, 0, 100, 50]]


def around_white(pixels: Tensor) -> Tensor:
    """The box around the pixels (3, H, W) that are white."""
    rows, columns = (pixels == WHITE).all(0).nonzero().unbind(1)
    return torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()


@pytest.mark.parametrize("size", [(120, 80), (80, 120), (48, 48)], ids=str)
@pytest.mark.parametrize("augmentation", ["none", "shift", "crop_flip"])
def test_targets_are_where_their_objects_are(tmp_path: Path, augmentation: str, size: tuple[int, int]) -> None:
    box = (12, 20, 36, 32)
    image = Image.new("RGB", size, (0, 0, 90))
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), (255, 255, 255))
    image.save(tmp_path / "white.png")
    placed = image_set(((12.0, 20.0, 36.0, 32.0),), size=size, file=tmp_path / "white.png")
    nearest = SMALL.model_copy(update={"interpolation": "nearest", "size": 128})
    images = DetectionSet(placed, nearest, augmentation, seed=0)  # type: ignore[arg-type]
    seen_at = set()
    for epoch in range(8):
        pixels, targets = images[epoch, 0]
        assert targets[0, 0] == 3
        torch.testing.assert_close(targets[0, 1:], around_white(pixels), rtol=0, atol=1.6)
        seen_at.add(tuple(targets[0].tolist()))
    assert len(seen_at) == (1 if augmentation == "none" else 8)


def test_a_target_of_which_little_is_left_is_none() -> None:
    boxes = torch.tensor([[-9.5, 0, 0.5, 8], [-8, 0, 8, 8], [60, 60, 100, 100], [70, 0, 80, 9], [63, 0, 65, 20]])
    inside, enough = seen(boxes, size=64)
    assert enough.tolist() == [False, True, False, False, False]
    assert inside[1].tolist() == [0, 0, 8, 8]


def test_rows_without_a_target_are_marked_and_crowds_are_none(tmp_path: Path) -> None:
    Image.new("RGB", (100, 80)).save(tmp_path / "a.png")
    Image.new("RGB", (100, 80)).save(tmp_path / "b.png")
    one, two = (10.0, 10.0, 30.0, 30.0), (0.0, 0.0, 50.0, 50.0)
    images = Images(
        (tmp_path / "a.png", tmp_path / "b.png"), (1, 2), ((100, 80), (100, 80)), ((one, two), ()), ((4, 5), ()),
        ((False, True), ()), tuple(range(10)), tmp_path / "instances_train.json",
    )  # fmt: skip
    ((_, targets),) = batches(DetectionSet(images, SMALL), batch_size=2)
    assert targets.shape == (2, 2, 5)
    assert targets[..., 0].tolist() == [[4, NOTHING], [NOTHING, NOTHING]]
    torch.testing.assert_close(targets[0, 0, 1:], into_input(torch.tensor([one]), placement(100, 80, SMALL))[0])


@pytest.mark.parametrize("augmentation", ["shift", "crop_flip"])
def test_a_draw_depends_on_seed_epoch_and_index_alone(digits: Path, augmentation: str) -> None:
    images = coco.images(digits, read_summary(digits), "train")

    def drawn(seed: int, epoch: int) -> tuple[Tensor, Tensor]:
        return DetectionSet(images, SMALL, augmentation, seed)[epoch, 2]  # type: ignore[arg-type]

    first = drawn(0, 0)
    random.random()
    torch.rand(2)
    assert all(torch.equal(a, b) for a, b in zip(first, drawn(0, 0), strict=True))
    assert not torch.equal(first[0], drawn(0, 1)[0])
    assert not torch.equal(first[0], drawn(1, 0)[0])


def test_calibration_and_validation_images_are_model_inputs(digits: Path) -> None:
    first, *others = detection.calibration_batches(digits, SMALL, batch_size=2, count=2, seed=0)
    assert first.shape == (2, 3, 64, 64)
    assert len(others) == 1
    again = next(iter(detection.calibration_batches(digits, SMALL, batch_size=2, count=2, seed=0)))
    assert torch.equal(first, again)
    sample = detection.validation_sample(digits, SMALL, count=3)
    images = DetectionSet(coco.images(digits, read_summary(digits), "val"), SMALL)
    assert torch.equal(sample[1], normalised(images[0, 2][0], SMALL))
    assert len(sample) == 3


# Mean average precision


@needs_mmyolo
def test_what_is_found_perfectly_is_1_and_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    images = image_set(((10.0, 20.0, 40.0, 60.0), (50.0, 5.0, 90.0, 50.0)), (3, 5), (False, False))
    boxes = torch.tensor(images.boxes[0])
    figures = average_precision([found(boxes, [3, 5])], images, LABELS)
    assert figures == {"map": 1.0, "map_50": 1.0, "map_75": 1.0}
    assert capfd.readouterr() == ("", "")


@needs_mmyolo
def test_what_is_not_found_is_0() -> None:
    images = image_set()
    nothing = found(torch.zeros(0, 4), [])
    assert average_precision([nothing], images, LABELS) == {"map": 0.0, "map_50": 0.0, "map_75": 0.0}
    other_class = found(torch.tensor(images.boxes[0]), [4])
    assert average_precision([other_class], images, LABELS)["map"] == 0.0


@needs_mmyolo
def test_figures_count_classes_overlaps_and_crowds() -> None:
    two = image_set(((10.0, 20.0, 40.0, 60.0), (50.0, 5.0, 90.0, 50.0)), (3, 5), (False, False))
    one_class = found(torch.tensor(two.boxes[0][:1]), [3])
    assert average_precision([one_class], two, LABELS)["map"] == 0.5
    wide = found(torch.tensor([[10.0, 20.0, 40.0 + 30 * 0.9, 60.0]]), [3])  # overlaps by 1 / 1.9 = 0.526
    assert average_precision([wide], image_set(), LABELS) == {"map": 0.1, "map_50": 1.0, "map_75": 0.0}
    crowd = image_set(((10.0, 20.0, 40.0, 60.0), (50.0, 5.0, 90.0, 50.0)), (3, 3), (False, True))
    in_crowd = found(torch.tensor([[10.0, 20.0, 40.0, 60.0], [60.0, 10.0, 80.0, 40.0]]), [3, 3], torch.tensor([0.5, 1]))
    assert average_precision([in_crowd], crowd, LABELS)["map"] == 1.0


def test_without_a_box_to_find_there_is_no_figure() -> None:
    with pytest.raises(DatasetError, match=r"instances_val.json: no box to measure on"):
        average_precision([found(torch.zeros(0, 4), [])], image_set((), (), ()), LABELS)


class Knowing(nn.Module):
    """In place of a decoded detector: knows where the objects of each image are, and gives each box twice."""

    answers: list[tuple[Tensor, Tensor]]

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        assert not network.training

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pairs = [self.answers.pop(0) for _ in images]
        return torch.stack([boxes for boxes, _ in pairs]), torch.stack([scores for _, scores in pairs])


@needs_mmyolo
def test_an_evaluation_finds_boxes_in_the_pixels_of_the_files(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = coco.images(digits, read_summary(digits), "val")
    answers = []
    for boxes, classes, size in zip(images.boxes, images.classes, images.sizes, strict=True):
        places, scores = torch.zeros(20, 4), torch.zeros(20, 10)
        inside = into_input(torch.tensor(boxes).reshape(-1, 4), placement(*size, SMALL))
        for row, (box, kind) in enumerate(zip(inside, classes, strict=True)):
            places[2 * row], places[2 * row + 1] = box, box + 0.1
            scores[2 * row, kind], scores[2 * row + 1, kind] = 0.9, 0.8
        answers.append((places, scores))
    monkeypatch.setattr(Knowing, "answers", answers, raising=False)
    monkeypatch.setattr(detection, "Decoded", Knowing)
    model = nn.Conv2d(1, 1, 1)
    metrics = detection.evaluate(model, digits, SMALL)
    assert (metrics["map"], metrics["map_50"], metrics["map_75"]) == (1.0, 1.0, 1.0)
    assert (metrics["images"], metrics["dataset"]) == (5, "digits")
    assert metrics["dataset_digest"] == read_summary(digits).digest
    assert model.training


EVALUATED = """
import hashlib, sys, torch
from pathlib import Path
from zoo.config import Preprocessing
from zoo.sources import mmyolo
from zoo.tasks import detection

found = hashlib.sha256()
figures = detection.average_precision
def noted(detections, *rest):
    for each in detections:
        found.update(each.boxes.numpy().tobytes() + each.scores.numpy().tobytes() + each.labels.numpy().tobytes())
    return figures(detections, *rest)
detection.average_precision = noted
torch.manual_seed(0)
model = mmyolo.build("yolov5/yolov5_n-v61_syncbn_fast_8xb16-300e_coco.py", num_classes=10)
for _, weight in model.named_parameters():
    weight.data.normal_(0, 0.1)
preprocessing = Preprocessing.model_validate_json(sys.argv[2])
print(detection.evaluate(model, Path(sys.argv[1]), preprocessing)["map"].hex(), found.hexdigest())
"""


@needs_mmyolo
@pytest.mark.slow
def test_two_processes_measure_the_same(digits: Path) -> None:
    def measured() -> str:
        command = [sys.executable, "-W", "ignore", "-c", EVALUATED, str(digits), SMALL.model_dump_json()]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
        return done.stdout

    first = measured()
    figure, found = first.split()
    assert math.isfinite(float.fromhex(figure))
    assert found != hashlib.sha256().hexdigest()
    assert first == measured()
