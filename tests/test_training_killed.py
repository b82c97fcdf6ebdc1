"""A training whose process is killed with SIGKILL in the middle of an epoch ends with the same weights all the same."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_training import Loss, Small, fit, images, loss, schedule
from torch import Tensor, nn

from zoo.layouts.imagefolder import Images
from zoo.training import checkpoints, numerics
from zoo.training.hooks import EpochEnd

PLAN = schedule(accumulate=2, precision="bfloat16", max_grad_norm=0.5)  # 2 steps an epoch, of 2 parts each
STOP_AT = 7  # the part of the 2nd step of the 2nd epoch, the 1st being tried out as well


def stopping_at(call: int, sign: Path) -> Loss:
    """The loss, which says at some call that it is there, and computes no further."""
    calls = iter(range(1, call))

    def stopped(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        if next(calls, None) is None:
            sign.touch()
            time.sleep(600)
        return loss(model, batch)

    return stopped


def train_until_killed(found: Images, folder: Path, sign: Path) -> None:
    torch.set_num_threads(1)
    fit(Small(dropout=0.5), found, folder, PLAN, objective=stopping_at(STOP_AT, sign))


@pytest.mark.slow
def test_killed_in_mid_epoch_it_ends_with_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    found, sign, folder = images(tmp_path / "images"), tmp_path / "sign", tmp_path / "killed"
    process = multiprocessing.get_context("spawn").Process(target=train_until_killed, args=(found, folder, sign))
    process.start()
    while not sign.exists() and process.is_alive():
        time.sleep(0.05)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len((folder / "curve.jsonl").read_text().splitlines()) == 1
    resumed, whole = Small(dropout=0.5), Small(dropout=0.5)
    torch.manual_seed(99)
    fit(resumed, found, folder, PLAN)
    fit(whole, found, tmp_path / "whole", PLAN)
    assert_same(resumed, whole)
    assert not torch.equal(whole[0].weight, Small()[0].weight)


class Killed(BaseException):
    """In place of a SIGKILL, where a process of its own would take too long."""


def test_the_scale_of_the_losses_goes_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float16, whose first steps overflow: the scale is halved until they do not, and steps are left out."""
    monkeypatch.setattr(numerics, "_unsupported", lambda precision, device: "")
    found, plan = images(tmp_path / "images"), schedule(precision="float16", accumulate=2, epochs=4)
    whole, resumed = Small(dropout=0.5), Small(dropout=0.5)
    fit(whole, found, tmp_path / "whole", plan, objective=loud)
    with pytest.raises(Killed):
        fit(resumed, found, tmp_path / "killed", plan, killed_after(2), objective=loud)
    (state,) = (checkpoints.newest(folder) for folder in (tmp_path / "killed/partial").iterdir())
    assert state is not None
    assert 0 < state["optimizer"]["scaler"]["scale"] < 65536
    resumed = Small(dropout=0.5)
    trained = fit(resumed, found, tmp_path / "killed", plan, objective=loud)
    assert trained.under["precision"] == "float16"
    assert_same(resumed, whole)


def loud(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """A loss whose gradients overflow float16 at the scale that a training begins with."""
    return loss(model, batch) * 20


def killed_after(epochs: int) -> Callable[[nn.Module], float]:
    calls = iter(range(epochs))

    def evaluate(model: nn.Module) -> float:
        if next(calls, None) is None:
            raise Killed
        return 0.5

    return evaluate


def test_what_fell_back_is_told_after_a_kill_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is computed any more then that could fail again."""

    def broken(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("no kernel")
        return loss(model, batch)

    def killed(self: EpochEnd, runner: object) -> None:
        raise Killed

    found, plan = images(tmp_path / "images"), schedule(precision="bfloat16", epochs=1)
    monkeypatch.setattr(EpochEnd, "after_train", killed)
    with pytest.warns(RuntimeWarning, match="no kernel"), pytest.raises(Killed):
        fit(Small(), found, tmp_path / "killed", plan, objective=broken)
    monkeypatch.undo()
    trained = fit(Small(), found, tmp_path / "killed", plan, objective=broken)
    assert trained.under["fell_back"] == "precision: bfloat16: float32 instead: no kernel"
    assert trained.under["precision"] == "float32"


def assert_same(ours: nn.Module, theirs: nn.Module) -> None:
    compared = 0
    for name, weight in theirs.state_dict().items():
        assert torch.equal(weight, ours.state_dict()[name]), name
        compared += 1
    assert compared == 9
