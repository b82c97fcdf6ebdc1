"""Several processes train one model as one process does: the same curve, weights, statistics and moving average."""

import json
import math
from pathlib import Path

import pytest
import torch
from small_training import KEY, Small, brightness, fit, images, loss, schedule, together
from torch import Tensor, nn

from zoo.errors import DatasetError, StepError, TrainingDiverged
from zoo.layouts.imagefolder import Images
from zoo.schedule import Schedule
from zoo.training import devices, divergence
from zoo.training.batchnorm import SharedStatistics, batch_norm
from zoo.training.images import Shuffled

EXACT = {"rtol": 1e-10, "atol": 1e-12}


def trained(found: Images, folder: Path, plan: Schedule) -> None:
    """Leave the weights of this process, from a start that all have."""
    model = Small().double()
    fit(model, found, folder, plan)
    torch.save(model.state_dict(), folder / f"weights-{devices.rank()}.pt")


def curve(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


class Killed(BaseException):
    """In place of a SIGKILL."""


def interrupted(found: Images, folder: Path, plan: Schedule) -> None:
    """Train for one epoch and leave its checkpoint."""
    calls = iter(range(1))

    def evaluate(model: nn.Module) -> float:
        if next(calls, None) is None:
            raise Killed
        return brightness(model)

    with pytest.raises(Killed):
        fit(Small().double(), found, folder, plan, evaluate)


@pytest.mark.slow
@pytest.mark.parametrize(("average", "is_resumed"), [(0.8, False), (None, False), (0.8, True)])
def test_two_processes_train_as_one_with_the_same_batch(
    tmp_path: Path, average: float | None, is_resumed: bool
) -> None:
    """From the start, or from where one process was killed."""
    found, plan = images(tmp_path / "images"), schedule(ema_decay=average, max_grad_norm=0.5)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    trained(found, tmp_path / "one", plan)
    if is_resumed:
        interrupted(found, tmp_path / "two", plan)
    assert together(trained, found, tmp_path / "two", plan) == [0, 0]
    one = torch.load(tmp_path / "one/weights-0.pt")
    assert "1.running_var" in one
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(tmp_path / f"two/weights-{rank}.pt"), one, **EXACT)
    assert len(curve(tmp_path / "one")) == 3
    for ours, theirs in zip(curve(tmp_path / "two"), curve(tmp_path / "one"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-10)
    assert not torch.equal(one["0.weight"], Small().double().state_dict()["0.weight"])


def compare_statistics(seed: int) -> None:
    """Of features that differ between the processes, and of gradients: those of one batch of all."""
    generator = torch.Generator().manual_seed(seed)
    everything = torch.randn(6, 3, 4, 5, generator=generator, dtype=torch.float64) * 3 + 1
    own_loss = torch.randn(everything.shape, generator=generator, dtype=torch.float64)
    layer, whole = nn.BatchNorm2d(3, momentum=0.3).double(), nn.BatchNorm2d(3, momentum=0.3).double()
    for each in (layer, whole):
        nn.init.constant_(each.weight, 1.5)
    own = slice(3 * devices.rank(), 3 * devices.rank() + 3)
    share = everything[own].clone().requires_grad_()
    with SharedStatistics():
        normalised = layer(share)
    (normalised * own_loss[own]).sum().backward()
    reference = everything.clone().requires_grad_()
    expected = whole(reference)
    (expected * own_loss).sum().backward()
    assert reference.grad is not None
    torch.testing.assert_close(normalised, expected[own], **EXACT)
    torch.testing.assert_close(share.grad, reference.grad[own], **EXACT)
    torch.testing.assert_close(layer.running_mean, whole.running_mean, **EXACT)
    torch.testing.assert_close(layer.running_var, whole.running_var, **EXACT)
    weight, bias = layer.weight.grad, layer.bias.grad
    assert isinstance(weight, Tensor)
    assert isinstance(bias, Tensor)
    torch.testing.assert_close(2 * devices.mean(weight), whole.weight.grad, **EXACT)
    torch.testing.assert_close(2 * devices.mean(bias), whole.bias.grad, **EXACT)
    with SharedStatistics():
        torch.testing.assert_close(layer.eval()(share), whole.eval()(everything)[own], **EXACT)


def compare_gradients() -> None:
    """One that only the second process has, one of both, one of none."""
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    parameters[1].grad = torch.full((2,), 1.0 + devices.rank())
    if devices.rank():
        parameters[0].grad = torch.tensor([3.0, 5.0])
    devices.average_gradients(parameters)
    assert [None if each.grad is None else each.grad.tolist() for each in parameters] == [[1.5, 2.5], [1.5, 1.5], None]


def refuse_what_differs() -> None:
    devices.agree("same", "trainings")
    with pytest.raises(StepError, match="the nodes have different trainings; build with"):
        devices.agree(str(devices.rank()), "trainings")


def refuse_less_than_a_batch(found: Images, folder: Path) -> None:
    with pytest.raises(DatasetError, match="20 training images are less than a batch of 24 on 2 devices; lower"):
        fit(Small(), found, folder, schedule(batch_size=24))


def diverge(found: Images, folder: Path) -> None:
    """The loss of one is that of all: both stop, and the first has left its note before the other ends."""

    def broken(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return loss(model, batch) * (math.nan if devices.rank() else 1)

    with pytest.raises(TrainingDiverged, match="epoch 1, iteration 1: the loss is nan"):
        fit(Small(), found, folder, schedule(), objective=broken)
    assert (folder / "partial" / KEY[:16] / divergence.NOTE).is_file()


def everything_else(found: Images, folder: Path) -> None:
    compare_statistics(7)
    compare_gradients()
    refuse_what_differs()
    refuse_less_than_a_batch(found, folder)
    diverge(found, folder)


@pytest.mark.slow
def test_statistics_gradients_and_refusals_of_two_processes(tmp_path: Path) -> None:
    assert together(everything_else, images(tmp_path / "images"), tmp_path) == [0, 0]


def test_batchnorm_of_one_process_is_the_library_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.all_reduce", lambda tensor: None)
    features = torch.randn(4, 3, 5)
    layer = nn.BatchNorm1d(3, affine=False, track_running_stats=False)
    ours = batch_norm(features, None, None, None, None, 0.1, layer.eps)
    torch.testing.assert_close(ours, layer(features))
    assert batch_norm(features.bfloat16(), None, None, None, None, 0.1, 1e-5).dtype == torch.bfloat16


@pytest.mark.parametrize(("length", "batch_size", "count"), [(20, 8, 2), (24, 8, 4), (9, 3, 1), (9, 9, 3)])
def test_devices_share_each_batch_as_one_would_take_it(length: int, batch_size: int, count: int) -> None:
    def drawn(device: int, count: int) -> list[tuple[int, int]]:
        sampler = Shuffled(length, 5, batch_size, device, count)
        sampler.set_epoch(2)
        assert len(list(sampler)) == len(sampler)
        return list(sampler)

    whole, shares = drawn(0, 1), [drawn(device, count) for device in range(count)]
    own = batch_size // count
    for number in range(length // batch_size):
        batch = [draw for share in shares for draw in share[number * own : (number + 1) * own]]
        assert batch == whole[number * batch_size : (number + 1) * batch_size]
