"""Training of detectors: their own losses on every model of the recipes, the teacher's neck, phases, resume."""

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from zoo import atomic
from zoo.config import Dataset, Preprocessing
from zoo.data import judging
from zoo.data.summary import SUMMARY
from zoo.datasets import digit_scenes_detection
from zoo.detection.images import NOTHING
from zoo.detection.objective import DetectionLoss, feature_distance, memory_format, own_loss
from zoo.schedule import Distillation, Optimizer, Schedule
from zoo.sources import mmyolo
from zoo.tasks import detection

if not all(mmyolo.find_spec(name) for name in ("mmyolo", "mmdet", "mmcv", "mmengine")):
    pytest.skip("mmyolo is an extra", allow_module_level=True)

RECIPES = Path(__file__).parents[1] / "recipes" / "mmyolo"
CONFIGS = {
    file.stem.removesuffix("_lite"): yaml.safe_load(file.read_text("utf-8"))["source"]["config"]
    for file in sorted(RECIPES.glob("*.yaml"))
}
NAMES = (
    *("ppyoloe_plus_s", "rtmdet_tiny", "yolov5_n", "yolov5_s", "yolov6_n", "yolov7_tiny", "yolov8_n", "yolov8_s"),
    *("yolox_nano", "yolox_tiny"),
)
SIZE = 96  # the assigner of two heads wants nine places in the smallest level
LETTERBOX = Preprocessing(geometry="letterbox", resize=SIZE, size=SIZE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
SCHEDULE = Schedule(
    description="test",
    epochs=2,
    batch_size=2,
    optimizer=Optimizer(type="AdamW", lr=1e-3),
    max_grad_norm=10.0,
    ema_decay=0.5,
    augmentation="shift",
    distillation=Distillation(weight=0.5),
)


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    return mmyolo.build(CONFIGS[name], num_classes=10)


def batch(images: int = 2) -> tuple[Tensor, Tensor]:
    """The same two images again and again: one with two objects, one with one."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    targets = torch.tensor(
        [
            [[3, 10, 12, 50, 60], [7, 40.5, 30, 90, 88.25]],
            [[0, 20, 5, 60, 45], [NOTHING] * 5],
        ]
    )
    return pixels.repeat(images // 2, 1, 1, 1), targets.repeat(images // 2, 1, 1)


@pytest.fixture
def epoch() -> Any:
    """What a running training tells of its epoch, which two heads ask for."""
    from mmengine.logging import MessageHub

    MessageHub.get_current_instance().update_info("epoch", 0)


def test_every_recipe_s_model_is_covered() -> None:
    assert tuple(CONFIGS) == NAMES
    assert len(NAMES) == 10


@pytest.mark.usefixtures("epoch")
@pytest.mark.parametrize("name", NAMES)
def test_a_loss_is_finite_reaches_every_weight_and_is_of_any_batch(name: str) -> None:
    model, objective = built(name), DetectionLoss(LETTERBOX)
    model.to(memory_format=memory_format(model))  # type: ignore[call-overload]
    if name == "rtmdet_tiny":  # its loss is a mean over what overlaps an object: at first nothing does
        for convolution in model.get_submodule("bbox_head.head_module.rtm_reg"):  # type: ignore[attr-defined]
            nn.init.constant_(convolution.bias, 2.0)
    loss = objective(model, batch())
    assert loss.shape == ()
    assert bool(loss.isfinite())
    loss.backward()
    without = [key for key, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert not without
    torch.testing.assert_close(objective(model, batch(4)), loss, rtol=1e-3, atol=0)


@pytest.mark.usefixtures("epoch")
@pytest.mark.parametrize("name", ["yolox_nano", "yolov5_n", "yolov6_n", "yolov7_tiny", "yolov8_n", "rtmdet_tiny"])
def test_images_without_an_object_train_too(name: str) -> None:
    model, objective = built(name), DetectionLoss(LETTERBOX)
    pixels, targets = batch()
    targets[1] = NOTHING
    assert bool(objective(model, (pixels, targets)).isfinite())
    loss = objective(model, (pixels, torch.full_like(targets, NOTHING)))
    loss.backward()
    assert bool(loss.isfinite())
    assert loss.item() > 0


@pytest.mark.usefixtures("epoch")
def test_the_term_of_the_teacher_is_of_the_necks() -> None:
    model, other = built("yolox_nano"), built("yolox_nano").eval()
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.5)
    alone = DetectionLoss(LETTERBOX)(copy.deepcopy(model), batch())
    half = DetectionLoss(LETTERBOX, Distillation(weight=0.5), other)(copy.deepcopy(model), batch())
    whole = DetectionLoss(LETTERBOX, Distillation(weight=1.0), other)(model, batch())
    assert half.item() > alone.item()
    torch.testing.assert_close(whole - alone, 2 * (half - alone), rtol=1e-3, atol=1e-4)
    assert not model.get_submodule("neck")._forward_hooks


def test_the_distance_of_features_ignores_scale_and_other_shapes() -> None:
    features = torch.randn(2, 4, 6, 6)
    scale, offset = torch.rand(1, 4, 1, 1) + 0.5, torch.randn(1, 4, 1, 1)
    assert float(feature_distance([features], [features * scale + offset])) < 1e-6
    assert float(feature_distance([features], [-features])) == pytest.approx(4, rel=1e-3)
    smaller = torch.randn(2, 4, 3, 3)
    assert float(feature_distance([features, features], [-features, smaller])) == pytest.approx(4, rel=1e-3)
    assert float(feature_distance([features], [smaller])) == 0


def test_weights_are_laid_out_as_pytorch_can_train_them() -> None:
    assert memory_format(built("yolov6_n")) == torch.contiguous_format
    assert memory_format(built("yolox_nano")) == torch.channels_last


def told(model: nn.Module, done: float) -> dict[str, Any]:
    """What the running training tells a head of its epoch, at that share of the iterations."""
    from zoo.detection.phases import Phases

    info: dict[str, Any] = {}
    hub = SimpleNamespace(update_info=info.__setitem__)
    runner = SimpleNamespace(
        iter=int(1000 * done), max_iters=1000, model=SimpleNamespace(student=model), message_hub=hub
    )
    Phases().before_train_iter(runner, 0)
    if done == 1:
        Phases().after_train(runner)
    return info


def test_assigners_change_at_the_same_share_of_a_training_as_in_the_configs() -> None:
    for name, share in (("yolov6_n", 0.01), ("ppyoloe_plus_s", 0.375)):
        model = built(name)
        first: int = model.bbox_head.initial_epoch  # type: ignore[union-attr, assignment]
        assert told(model, 0.0)["epoch"] < first
        assert told(model, share - 0.001)["epoch"] < first
        assert told(model, share)["epoch"] >= first
    assert told(built("yolov8_n"), 0.5) == {}


def test_yolox_has_its_further_term_in_the_end_alone() -> None:
    model = built("yolox_nano")
    head: Any = model.bbox_head
    told(model, 0.94)
    assert not head.use_bbox_aux
    before = own_loss(model, torch.randn(2, 3, SIZE, SIZE), batch()[1])
    told(model, 0.95)
    assert head.use_bbox_aux
    torch.manual_seed(0)
    inputs = torch.randn(2, 3, SIZE, SIZE)
    with_term = own_loss(model, inputs, batch()[1])
    told(model, 1.0)
    assert not head.use_bbox_aux
    assert bool(before.isfinite())
    assert with_term.item() > own_loss(model, inputs, batch()[1]).item()


# Whole trainings, two epochs of two iterations


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    digit_scenes_detection.generate(folder, train=4, val=2, size=SIZE)
    dataset = Dataset(
        description="test", task="detection", layout="coco", generator="digit_scenes_detection", num_classes=10,
        corrupt="skip", mean=LETTERBOX.mean, std=LETTERBOX.std, licence="none",
    )  # fmt: skip
    summary = judging.summarise("digits", dataset, folder, inside=True)
    atomic.write_json(folder / SUMMARY, summary.model_dump(mode="json"))
    return folder


class Killed(BaseException):
    """In place of a SIGKILL: nothing of ours catches it."""


Fit = Callable[..., nn.Module]


@pytest.fixture
def fit(digits: Path) -> Fit:
    def fitted(name: str, folder: Path, *, taught: bool, model: nn.Module | None = None, **changes: Any) -> nn.Module:
        student = model or built(name)
        detection.fit(
            student, digits, LETTERBOX, SCHEDULE.model_copy(update=changes), name=name, folder=folder, key="k" * 64,
            teacher=built(name) if taught else None,
        )  # fmt: skip
        return student

    return fitted


def test_a_training_with_a_teacher_changes_the_weights_and_leaves_a_curve(fit: Fit, tmp_path: Path) -> None:
    trained = fit("ppyoloe_plus_s", tmp_path, taught=True)
    assert not trained.training
    assert not any("hooks" in key and value for part in trained.modules() for key, value in vars(part).items())
    before, after = built("ppyoloe_plus_s").state_dict(), trained.state_dict()
    assert before.keys() == after.keys()
    changed = [key for key in before if not torch.equal(before[key], after[key])]
    assert any(key.startswith("backbone") for key in changed)
    assert any(key.startswith("bbox_head") for key in changed)
    rows = (tmp_path / "curve.jsonl").read_text().splitlines()
    assert len(rows) == 2
    assert '"map": 0' in rows[0]


def test_a_training_that_was_killed_ends_with_the_same_weights(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit("yolox_nano", tmp_path / "whole", taught=False)

    def killed(*_: Any) -> dict[str, float]:
        if (tmp_path / "cut" / "curve.jsonl").exists():
            raise Killed
        return {"map": 0.0}

    with monkeypatch.context() as patch:
        patch.setattr(detection, "_figures", killed)
        with pytest.raises(Killed):
            fit("yolox_nano", tmp_path / "cut", taught=False)
    torch.manual_seed(99)
    resumed = fit("yolox_nano", tmp_path / "cut", taught=False)
    for key, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[key]), key


def test_statistics_are_measured_anew_unless_the_schedule_keeps_the_running_averages(fit: Fit, tmp_path: Path) -> None:
    measured = fit("yolox_nano", tmp_path / "measured", taught=False).state_dict()
    running = fit("yolox_nano", tmp_path / "running", taught=False, statistics="running").state_dict()
    for key, value in measured.items():
        is_statistic = key.endswith(("running_mean", "running_var", "num_batches_tracked"))
        assert torch.equal(value, running[key]) != is_statistic, key


def test_gradients_are_shortened_to_the_schedule_s_length(fit: Fit, tmp_path: Path) -> None:
    """One step of SGD at rate 1 moves the weights by the gradient: by at most the length that is allowed."""
    plain = {
        "epochs": 1, "batch_size": 4, "ema_decay": None, "optimizer": Optimizer(lr=1.0, momentum=0.0),
    }  # fmt: skip

    def moved(**changes: Any) -> float:
        model = fit("yolov5_n", tmp_path / str(changes), taught=False, **plain, **changes)
        before = dict(built("yolov5_n").named_parameters())
        distances = [(weight - before[key]).detach().double().norm() for key, weight in model.named_parameters()]
        return torch.stack(distances).norm().item()

    assert moved(max_grad_norm=1e-2) == pytest.approx(1e-2, rel=1e-3)
    assert moved(max_grad_norm=None) > 0.1
