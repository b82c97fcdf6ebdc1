"""Training: schedule, resume, divergence, checkpoints and progress, on a tiny model and tiny data."""

import json
import math
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_training import KEY, PREPROCESSING, schedule
from torch import Tensor, nn

from zoo import progress
from zoo.errors import DatasetError, TrainingDiverged
from zoo.layouts.imagefolder import Images
from zoo.schedule import Optimizer, Schedule
from zoo.source_model import load_weights, save_weights
from zoo.training import checkpoints
from zoo.training.hooks import EpochEnd
from zoo.training.images import ImageSet, batches, training_loader
from zoo.training.optimizer import learning_rate, optimizer
from zoo.training.runner import Trained, train


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    from PIL import Image

    folder = tmp_path_factory.mktemp("images")
    files = []
    for index in range(20):
        files.append(folder / f"{index:02d}.png")
        grey = 40 + 8 * index
        Image.new("RGB", (8, 8), (grey, 255 - grey, 128)).save(files[-1])
    return Images(tuple(files), tuple(index // 10 for index in range(20)))


class Tiny(nn.Sequential):
    """BatchNorm has running statistics and dropout draws random numbers: both must survive a resume."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        super().__init__(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5),
            nn.Linear(4, 2),
        )  # fmt: skip

    def init_weights(self) -> None:
        raise AssertionError("a training must keep the weights that it was given")


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0].float() / 255), batch[1])


class Killed(BaseException):
    """In place of a SIGKILL: nothing of ours catches it."""


def killed_after(epochs: int) -> Callable[[nn.Module], float]:
    """An evaluation that is interrupted in the epoch after ``epochs``."""
    calls = iter(range(epochs))

    def evaluate(model: nn.Module) -> float:
        if next(calls, None) is None:
            raise Killed
        return 0.5

    return evaluate


def fit(
    model: nn.Module,
    images: Images,
    folder: Path,
    plan: Schedule,
    evaluate: Callable[[nn.Module], float] = lambda model: 0.5,
    objective: Callable[[nn.Module, tuple[Tensor, Tensor]], Tensor] = loss,
) -> Trained:
    loader = training_loader(ImageSet(images, PREPROCESSING, plan.augmentation, plan.seed), plan.batch_size, 0)
    return train(model, objective, loader, evaluate, plan, metric="top1", name="tiny", folder=folder, key=KEY)


class Tied(nn.Module):
    """One convolution in two places, as heads share theirs between levels."""

    def __init__(self) -> None:
        super().__init__()
        self.one = self.other = nn.Conv2d(3, 3, 3, padding=1)
        self.classify = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.classify(self.other(self.one(x)).mean((2, 3)))
        return scores


def test_trained_weights_are_saved_though_tied(images: Images, tmp_path: Path) -> None:
    model = Tied()
    fit(model, images, tmp_path, schedule(epochs=1))
    save_weights(model, tmp_path / "tied.safetensors")
    loaded = Tied()
    load_weights(loaded, tmp_path / "tied.safetensors")
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(loaded.eval()(x), model(x))


@pytest.mark.parametrize("average", [0.8, None])
def test_resumed_after_a_kill_is_the_same_as_uninterrupted(
    images: Images, tmp_path: Path, average: float | None
) -> None:
    plan = schedule(ema_decay=average)
    whole, resumed = Tiny(), Tiny()
    fit(whole, images, tmp_path / "whole", plan)
    with pytest.raises(Killed):
        fit(resumed, images, tmp_path / "resumed", plan, killed_after(1))
    resumed = Tiny()
    torch.manual_seed(99)
    trained = fit(resumed, images, tmp_path / "resumed", plan)
    assert trained.epochs == 3
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    assert not torch.equal(whole.state_dict()["0.weight"], Tiny().state_dict()["0.weight"])


def test_a_truncated_checkpoint_falls_back_to_the_one_before(images: Images, tmp_path: Path) -> None:
    whole, resumed = Tiny(), Tiny()
    fit(whole, images, tmp_path / "whole", schedule())
    with pytest.raises(Killed):
        fit(resumed, images, tmp_path / "cut", schedule(), killed_after(2))
    first, second = sorted((tmp_path / "cut" / "partial" / KEY[:16]).glob("epoch-*.pt"))
    second.write_bytes(second.read_bytes()[:-100])
    state = checkpoints.newest(first.parent)
    assert state is not None
    assert len(state["curve"]) == 1
    resumed = Tiny()
    fit(resumed, images, tmp_path / "cut", schedule())
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_killed_after_the_last_epoch_only_the_end_is_done_again(images: Images, tmp_path: Path) -> None:
    whole, resumed = Tiny(), Tiny()
    fit(whole, images, tmp_path / "whole", schedule())

    def killed_at_the_end(self: EpochEnd, runner: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpochEnd, "after_train", killed_at_the_end)
        with pytest.raises(Killed):
            fit(resumed, images, tmp_path / "resumed", schedule())
    (tmp_path / "resumed" / "curve.jsonl").unlink()  # as the pipeline does before it starts a step again
    resumed = Tiny()
    fit(resumed, images, tmp_path / "resumed", schedule(), killed_after(0))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert len((tmp_path / "resumed" / "curve.jsonl").read_text().splitlines()) == 3


def test_a_training_leaves_curve_and_events_and_its_own_checkpoints(
    images: Images, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "partial" / "another key").mkdir(parents=True)
    model = Tiny()
    fit(model, images, tmp_path, schedule())
    rows = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert set(rows[0]) == {"epoch", "loss", "lr", "top1", "seconds"}
    assert list((tmp_path / "tensorboard").glob("events*"))
    assert [folder.name for folder in (tmp_path / "partial").iterdir()] == [KEY[:16]]
    assert len(list((tmp_path / "partial" / KEY[:16]).glob("epoch-*.pt"))) == checkpoints.KEPT
    assert not model.training
    assert capsys.readouterr().out.splitlines()[-1].startswith("100% tiny: epoch 3/3, loss ")


def test_the_moving_average_is_what_is_evaluated_and_kept(images: Images, tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def evaluate(model: nn.Module) -> float:
        seen.append(model.get_parameter("0.weight").detach().clone())
        return 0.5

    averaged, plain = Tiny(), Tiny()
    fit(averaged, images, tmp_path / "averaged", schedule(), evaluate)
    assert torch.equal(seen[-1], averaged.get_parameter("0.weight"))
    fit(plain, images, tmp_path / "plain", schedule(ema_decay=None))
    assert not torch.equal(plain.get_parameter("0.weight"), averaged.get_parameter("0.weight"))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_says_where_and_what_to_do(images: Images, tmp_path: Path, value: float) -> None:
    def broken(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return loss(model, batch) * value

    with pytest.raises(TrainingDiverged, match=r"epoch 1, iteration 1: .* learning rate 0.05; lower .*optimizer.lr"):
        fit(Tiny(), images, tmp_path, schedule(), objective=broken)
    assert not list((tmp_path / "partial").rglob("epoch-*"))


def test_a_damaged_image_stops_the_training_in_one_line(images: Images, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(images.files[0].read_bytes()[:-30])
    mixed = Images((*images.files, damaged), (*images.classes, 0))
    with pytest.raises(DatasetError) as caught:
        fit(Tiny(), mixed, tmp_path, schedule(batch_size=21))
    assert str(caught.value).startswith(f"{damaged}: not an image that can be decoded")
    assert "\n" not in str(caught.value)


def test_a_damaged_image_in_a_loading_process_is_one_line_too(images: Images, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"")
    mixed = ImageSet(Images((*images.files, damaged), (*images.classes, 0)), PREPROCESSING)
    mixed.kept = None  # as for a set that is too large to keep
    with pytest.raises(DatasetError) as caught:
        list(batches(mixed, batch_size=4))
    assert str(caught.value).startswith(f"{damaged}: ")
    assert "\n" not in str(caught.value)


def test_order_and_augmentation_depend_on_seed_and_epoch_alone(images: Images) -> None:
    def epoch(number: int, seed: int) -> Tensor:
        loader = training_loader(ImageSet(images, PREPROCESSING, "shift", seed), batch_size=20, workers=0)
        loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
        ((pixels, _labels),) = loader
        assert isinstance(pixels, Tensor)
        return pixels

    first = epoch(0, seed=0)
    torch.rand(3)
    assert torch.equal(first, epoch(0, seed=0))
    assert not torch.equal(first, epoch(1, seed=0))
    assert not torch.equal(first, epoch(0, seed=1))
    assert first.is_contiguous(memory_format=torch.channels_last)


def test_learning_rate_warms_up_and_decays_to_zero() -> None:
    plan = schedule(epochs=4, warmup_epochs=1.0)
    rates = [learning_rate(plan, iteration, per_epoch=10) for iteration in range(41)]
    assert rates[0] == pytest.approx(0.005)
    assert rates[9] == rates[10] == pytest.approx(0.05)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[25] == pytest.approx(0.025)
    assert rates[40] == pytest.approx(0.0)


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_vectors_are_not_decayed(kind: str) -> None:
    settings = Optimizer.model_validate({"type": kind, "lr": 0.1, "weight_decay": 0.1})
    decayed, free = optimizer(Tiny(), schedule(optimizer=settings)).param_groups
    assert [decayed["weight_decay"], free["weight_decay"]] == [0.1, 0.0]
    assert {parameter.ndim for parameter in decayed["params"]} == {2, 4}
    assert {parameter.ndim for parameter in free["params"]} == {1}


def test_progress_is_sent_and_never_waits_for_a_listener_that_does_not_read() -> None:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    progress.connect(sender)
    try:
        for _ in range(5000):
            progress.report("tiny: epoch 1/2", 0.5)
        assert receiver.recv() == ("tiny: epoch 1/2", 0.5)
        receiver.close()
        progress.report("to nobody", 1.0)
    finally:
        progress.connect(None)
        sender.close()
