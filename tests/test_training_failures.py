"""Trainings that cannot go on: a loss that is no number, a disk that is full."""

import errno
import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from conftest import MODELS, Checkout
from small_training import KEY, Loss, Small, fit, images, loss, schedule
from torch import Tensor, nn

from zoo.errors import TrainingDiverged, UnusableFile
from zoo.layouts.imagefolder import Images
from zoo.source_model import load_weights, save_weights
from zoo.training import checkpoints

STEPS = 2  # an epoch


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return images(tmp_path_factory.mktemp("failures") / "images")


def broken_after(steps: int, factor: float = math.nan) -> Loss:
    """A loss that is finite for so many steps."""
    calls = iter(range(steps))

    def broken(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return loss(model, batch) * (1 if next(calls, None) is not None else factor)

    return broken


def checkpoint_files(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / "partial" / KEY[:16]).glob("epoch-*"))


def test_a_loss_that_is_no_number_names_the_step_and_keeps_the_last_checkpoint(found: Images, tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged) as caught:
        fit(Small(), found, tmp_path, schedule(), objective=broken_after(STEPS + 1))
    (kept,) = checkpoint_files(tmp_path)
    assert str(caught.value) == (
        "epoch 2, iteration 2: the loss is nan at learning rate 0.0327; lower the schedule's optimizer.lr (a recipe "
        "can: train.lr), to 0.013 for example, or lengthen its warmup_epochs; the last good checkpoint is kept: "
        f"{tmp_path / 'partial' / KEY[:16] / kept}"
    )
    state = checkpoints.newest(tmp_path / "partial" / KEY[:16])
    assert state is not None
    assert len(state["curve"]) == 1
    assert all(bool(weight.isfinite().all()) for weight in state["learner"].values())


def test_the_same_settings_are_refused_until_the_note_is_removed(found: Images, tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged) as first:
        fit(Small(), found, tmp_path, schedule(), objective=broken_after(STEPS))
    with pytest.raises(TrainingDiverged) as second:
        fit(Small(), found, tmp_path, schedule())
    note = tmp_path / "partial" / KEY[:16] / "diverged.txt"
    assert str(second.value) == (
        f"with the same settings this training diverged before, and would again: {first.value}; change the settings, "
        f"or remove {note} to go on from there"
    )
    note.unlink()
    resumed, whole = Small(), Small()
    fit(resumed, found, tmp_path, schedule())
    fit(whole, found, tmp_path / "whole", schedule())
    assert torch.equal(resumed[0].weight, whole[0].weight)


def test_a_divergence_in_the_first_epoch_has_no_checkpoint_to_keep(found: Images, tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match=r"epoch 1, iteration 1: the loss is inf.*; there is no checkpoint: no"):
        fit(Small(), found, tmp_path, schedule(), objective=broken_after(0, math.inf))
    assert checkpoint_files(tmp_path) == []


class Exploding(torch.autograd.Function):
    """A loss that is finite while its gradient is not."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return gradients[0] * math.nan


def test_weights_that_are_no_numbers_are_not_taken_for_a_good_checkpoint(found: Images, tmp_path: Path) -> None:
    calls = iter(range(2 * STEPS - 1))

    def last_step_breaks(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        found = loss(model, batch)
        return found if next(calls, None) is not None else Exploding.apply(found)

    with pytest.raises(TrainingDiverged, match=r"epoch 2, iteration 2: weights are not finite after it .*epoch-00001"):
        fit(Small(), found, tmp_path, schedule(), objective=last_step_breaks)
    assert len(checkpoint_files(tmp_path)) == 1


def test_no_room_for_a_checkpoint_keeps_the_one_before(
    found: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether writing or syncing finds out; the training goes on from there when there is room again."""
    folder, real, synced = tmp_path / "partial" / KEY[:16], os.fsync, iter(range(3))

    def full(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        if name == f".{os.getpid()}.tmp" and next(synced) == 1:  # the second checkpoint
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    resumed, whole = Small(), Small()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnusableFile) as caught:
        fit(resumed, found, tmp_path, schedule())
    monkeypatch.undo()
    assert str(caught.value) == (
        f"{folder}: the checkpoint of epoch 2 cannot be written: No space left on device; make room there and build "
        "again, which goes on from epoch 1, which is kept"
    )
    (kept,) = checkpoint_files(tmp_path)
    assert kept.startswith("epoch-00001-")
    assert not list(folder.glob(".*"))
    resumed = Small()
    fit(resumed, found, tmp_path, schedule())
    fit(whole, found, tmp_path / "whole", schedule())
    assert torch.equal(resumed[0].weight, whole[0].weight)


FILE_LIMIT = """
    import resource
    import sys
    from pathlib import Path

    import torch

    from zoo.errors import UnusableFile
    from zoo.source_model import save_weights
    from zoo.training import checkpoints

    folder, model = Path(sys.argv[1]), torch.nn.Linear(300, 300)
    checkpoints.save(folder, 1, {"curve": [1]})
    (folder / "model.safetensors").write_bytes(b"what was there before")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    for save in (
        lambda: checkpoints.save(folder, 2, model.state_dict()),
        lambda: save_weights(model, folder / "model.safetensors"),
    ):
        try:
            save()
        except UnusableFile as error:
            print(error)
"""


def test_a_file_that_does_not_fit_leaves_nothing_half_written(tmp_path: Path) -> None:
    script = textwrap.dedent(FILE_LIMIT)
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    of_checkpoint, of_weights = done.stdout.splitlines()
    assert of_checkpoint == (
        f"{tmp_path}: the checkpoint of epoch 2 cannot be written: File too large; make room there and build again, "
        "which goes on from epoch 1, which is kept"
    )
    assert of_weights.startswith(f"{tmp_path / 'model.safetensors'}: cannot be written: ")
    assert "File too large" in of_weights
    assert of_weights.endswith("; make room there and build again")
    assert (tmp_path / "model.safetensors").read_bytes() == b"what was there before"
    assert sorted(file.name[:11] for file in tmp_path.iterdir()) == ["epoch-00001", "model.safet"]
    assert checkpoints.newest(tmp_path) == {"curve": [1]}


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".123.tmp").write_bytes(b"half a checkpoint")
    checkpoints.save(tmp_path, 1, {"curve": []})
    assert [file.name[:11] for file in tmp_path.iterdir()] == ["epoch-00001"]


def test_weights_are_saved_whole(tmp_path: Path) -> None:
    model, other = Small(), Small()
    nn.init.constant_(model[0].weight, 2.0)
    save_weights(model, tmp_path / "model.safetensors")
    load_weights(other, tmp_path / "model.safetensors")
    assert torch.equal(other[0].weight, model[0].weight)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_step_without_room_says_so_in_one_line(checkout: Checkout) -> None:
    checkout.order("train", MODELS[0], "full")
    done = checkout.doit(f"train:{MODELS[0]}")
    assert done.returncode != 0
    curve = checkout.folder("train") / "curve.jsonl"
    cause = f"{curve}: No space left on device; make room there and build again: what is done stays"
    assert f"failed: {cause}" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
