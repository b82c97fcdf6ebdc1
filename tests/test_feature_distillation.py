"""The distance of features: its value, the tasks' losses with it, and a training by it."""

import copy
from pathlib import Path

import pytest
import torch
from noise_training import PREPROCESSING, SCHEDULE, SIZE, Killed, fit, no_hooks
from torch import Tensor, nn

from zoo.detection.objective import DetectionLoss
from zoo.schedule import Distillation
from zoo.segmentation.loss import SegmentationLoss
from zoo.tasks.classification import ClassificationLoss
from zoo.training.features import feature_distance, recorded
from zoo.training.stages import common_stages

FEATURES = Distillation(weight=0.25, features=3.0)
LOGITS = Distillation(weight=0.25)


class Small(nn.Module):
    """Two stages and a classifier."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.one = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU())
        self.classify = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.classify(self.two(self.one(x)).mean((2, 3)))
        return scores


def teacher() -> Small:
    return Small(7).eval().requires_grad_(False)


def batch(labels: tuple[int, ...] = (4,)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (4, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    return pixels, torch.randint(0, 2, labels, generator=generator)


def test_the_distance_is_in_units_of_the_teachers_variance_and_stages_count_alike() -> None:
    taught = {"a": torch.tensor([[1.0, 3.0], [5.0, 7.0]]), "b": torch.tensor([0.0, 200.0])}
    given = {"b": torch.tensor([50.0, 200.0]), "a": torch.tensor([[2.0, 3.0], [5.0, 4.0]])}
    # a: squared distances 1 and 9 of four, variance 5; b: 2500 of two, variance 10000
    torch.testing.assert_close(feature_distance(given, taught), torch.tensor((2.5 / 5 + 1250 / 10000) / 2))


def test_the_teachers_mean_is_at_distance_one_and_the_teacher_at_zero() -> None:
    taught = {"a": torch.rand(8, 4, generator=torch.Generator().manual_seed(0))}
    assert feature_distance(taught, taught) == 0
    torch.testing.assert_close(
        feature_distance({"a": taught["a"].mean().expand(8, 4)}, taught), torch.tensor(1.0), atol=1e-4, rtol=0
    )


def test_half_precision_is_compared_in_full() -> None:
    far = {"a": torch.full((2, 2), 3e4, dtype=torch.float16)}
    taught = {"a": torch.tensor([[-3e4, 3e4], [-3e4, 3e4]], dtype=torch.float16)}
    torch.testing.assert_close(feature_distance(far, taught), torch.tensor(2.0), atol=1e-2, rtol=0)


def test_devices_with_a_half_of_the_batch_each_have_the_distance_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    given, taught = torch.rand(4, 3, generator=generator), torch.rand(4, 3, generator=generator)
    whole = feature_distance({"a": given}, {"a": taught})
    over_all = [taught.mean(), taught.var(correction=0)] * 2  # what the devices agree on, in the order they ask
    monkeypatch.setattr("zoo.training.devices.mean", lambda own: over_all.pop(0))
    halves = [feature_distance({"a": given[part]}, {"a": taught[part]}) for part in (slice(2), slice(2, 4))]
    torch.testing.assert_close(torch.stack(halves).mean(), whole)
    assert not over_all


def test_features_are_recorded_while_it_lasts_and_nothing_is_left() -> None:
    model = Small(1).eval()
    with recorded(model, ("two", "one.1")) as found:
        model(torch.rand(2, 3, SIZE, SIZE))
    assert {name: tuple(value.shape) for name, value in found.items()} == {"one.1": (2, 4, 8, 8), "two": (2, 6, 4, 4)}
    assert no_hooks(model)
    with pytest.raises(ZeroDivisionError), recorded(model, ("one",)):
        raise ZeroDivisionError
    assert no_hooks(model)


def distance(model: nn.Module, other: nn.Module, inputs: Tensor, *stages: str) -> Tensor:
    """By hand, of models whose stages are called one after the other."""
    total = torch.zeros(())
    own, theirs = inputs, inputs
    for stage in stages:
        own, theirs = model.get_submodule(stage)(own), other.get_submodule(stage)(theirs)
        total = total + ((own - theirs) ** 2).mean() / (((theirs - theirs.mean()) ** 2).mean() + 1e-6)
    return total / len(stages)


def test_a_classifier_learns_by_features_in_addition() -> None:
    model, other, data = Small(1).eval(), teacher(), batch()
    alone = ClassificationLoss(PREPROCESSING, 0.1, LOGITS, other)(model, data)
    taught = ClassificationLoss(PREPROCESSING, 0.1, FEATURES, other, ("one", "two"))(model, data)
    inputs = (data[0].float() / 255 - 0.5) / 0.5
    torch.testing.assert_close(taught, alone + 3 * distance(model, other, inputs, "one", "two"))
    taught.backward()
    assert model.one[0].weight.grad is not None
    assert other.one[0].weight.grad is None


def test_features_alone_are_labels_and_their_distance() -> None:
    model, other, data = Small(1).eval(), teacher(), batch()
    labels = ClassificationLoss(PREPROCESSING, 0.1)(model, data)
    by_features = Distillation(weight=0.0, features=1.0)
    taught = ClassificationLoss(PREPROCESSING, 0.1, by_features, other, ("two",))(model, data)
    inputs = (data[0].float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        start = model.one(inputs), other.one(inputs)
        spread = other.two(start[1])
        expected = labels + (model.two(start[0]) - spread).square().mean() / (spread.var(correction=0) + 1e-6)
    torch.testing.assert_close(taught, expected)


class Segmenter(nn.Module):
    """The stages of `Small` as a backbone, and a class for every pixel."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(Small(seed).one, Small(seed).two)
        self.classifier = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        scores = self.classifier(self.backbone(x))
        return {"out": nn.functional.interpolate(scores, scale_factor=4.0)}


def test_a_segmenter_learns_by_the_features_of_its_backbone_in_addition() -> None:
    model, other = Segmenter(1).eval(), Segmenter(2).eval().requires_grad_(False)
    data = batch((4, SIZE, SIZE))
    stages = common_stages(other, model, SIZE, "small")
    assert stages == ("backbone.0", "backbone.1")
    alone = SegmentationLoss(PREPROCESSING, 0.1, LOGITS, other)(model, data)
    taught = SegmentationLoss(PREPROCESSING, 0.1, FEATURES, other, stages)(model, data)
    inputs = (data[0].float() / 255 - 0.5) / 0.5
    torch.testing.assert_close(taught, alone + 3 * distance(model, other, inputs, *stages))


class Neck(nn.Module):
    def forward(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(2 * level for level in levels)


class Detector(nn.Module):
    """What the loss of detectors asks of one: backbone, neck, head and a loss of its own."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(Small(seed).one, Small(seed).two)
        self.neck = Neck()
        self.bbox_head = nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        levels: tuple[Tensor, ...] = self.bbox_head(self.neck((self.backbone(x),)))
        return levels

    def loss(self, inputs: Tensor, samples: object) -> dict[str, Tensor]:
        return {"size": self(inputs)[0].square().mean()}


def test_a_detector_learns_by_the_features_of_its_backbone_beside_its_neck() -> None:
    model, other = Detector(1).eval(), Detector(2).eval().requires_grad_(False)
    data = batch((4, 3, 5))
    stages = common_stages(other, model, SIZE, "small")
    assert stages == ("backbone.0", "backbone.1")
    alone = DetectionLoss(PREPROCESSING, LOGITS, other)(model, data)
    taught = DetectionLoss(PREPROCESSING, FEATURES, other, stages)(model, data)
    inputs = (data[0].float() / 255 - 0.5) / 0.5
    torch.testing.assert_close(taught, alone + 3 * distance(model, other, inputs, *stages))


def objective() -> ClassificationLoss:
    return ClassificationLoss(PREPROCESSING, 0.1, FEATURES, teacher(), ("one", "two"))


def test_a_training_by_features_comes_nearer_and_leaves_no_trace(tmp_path: Path) -> None:
    seen: list[nn.Module] = []

    def evaluate(student: nn.Module) -> float:
        seen.append(copy.deepcopy(student))
        return 0.5

    model, untaught = Small(1), Small(1)
    names = list(model.state_dict())
    longer = SCHEDULE.model_copy(update={"epochs": 8})
    fit(model, objective(), tmp_path / "taught", longer, evaluate=evaluate)
    fit(untaught, ClassificationLoss(PREPROCESSING, 0.1), tmp_path / "untaught", longer)
    assert len(seen) == 8
    assert all(no_hooks(each) for each in (*seen, model))
    assert list(model.state_dict()) == names
    inputs = (batch()[0].float() / 255 - 0.5) / 0.5
    near, far = (distance(each, teacher(), inputs, "one", "two").item() for each in (model, untaught))
    assert near < 0.9 * far


def test_a_resumed_training_by_features_is_the_same_as_an_unbroken_one(tmp_path: Path) -> None:
    whole, killed, resumed = Small(1), Small(1), Small(1)
    fit(whole, objective(), tmp_path / "whole")
    with pytest.raises(Killed):
        fit(killed, objective(), tmp_path / "resumed", killed_after=1)
    assert no_hooks(killed)
    fit(resumed, objective(), tmp_path / "resumed")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert not torch.equal(whole.one[0].weight, Small(1).one[0].weight)
