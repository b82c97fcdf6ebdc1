"""Training with mmengine's Runner: one call that ends with trained weights, however often it is killed on the way.

The weights kept are those after the last epoch (their moving average where the schedule has one). None are chosen by
their accuracy on the validation set: that would flatter it.
"""

import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from zoo.errors import TrainingDiverged
from zoo.schedule import Schedule
from zoo.training.hooks import EpochEnd, Evaluate, Pace
from zoo.training.images import one_line_errors
from zoo.training.learner import Learner, Objective
from zoo.training.optimizer import optimizer

# The runner's own logging, timing and checkpoints give way to zoo.training.hooks: its checkpoints are pickles that
# torch >= 2.6 refuses to load, and are not written atomically.
UNUSED_HOOKS = ("runtime_info", "timer", "logger", "param_scheduler", "checkpoint")


@dataclass(frozen=True)
class Trained:
    """How a training went."""

    epochs: int
    seconds: float  # wall time, that of interrupted runs up to their last checkpoint included


def train(
    model: nn.Module,
    objective: Objective,
    loader: "DataLoader[Any]",
    evaluate: Evaluate,
    schedule: Schedule,
    *,
    metric: str,
    name: str,
    folder: Path,
    key: str,
    hooks: Sequence[Hook] = (),
    memory_format: torch.memory_format = torch.channels_last,
) -> Trained:
    """Train ``model`` in place, on the accelerator where there is one, and leave it on the CPU in eval mode.

    Writes ``curve.jsonl`` and ``tensorboard/`` into ``folder``, and a checkpoint after each epoch under
    ``folder/partial/<key>``, from which a later call with the same key goes on. They stay, for a kill before the caller
    has saved the weights: removing ``folder/partial`` is the caller's last act. Those of other keys are removed at the
    start. ``metric`` is what ``evaluate`` measures; ``name`` is for people. ``hooks`` are the task's own: what they do
    must depend on the iteration alone. The weights are in ``memory_format`` afterwards.

    Raises TrainingDiverged where the loss is not finite, DatasetError where an image cannot be decoded.
    """
    partial = folder / "partial" / key[:16]
    _remove_others(partial)
    learner = Learner(model.to(memory_format=memory_format), objective)
    pace = Pace(schedule)
    average = _average(schedule)
    end = EpochEnd(name, metric, evaluate, folder, partial, pace, average)
    own = [pace, end] if average is None else [pace, average, end]
    runner = _QuietRunner(
        model=learner,
        work_dir=str(partial / "runner"),
        train_dataloader=loader,
        optim_wrapper=OptimWrapper(optimizer(learner, schedule), clip_grad=_clipping(schedule)),
        train_cfg={"by_epoch": True, "max_epochs": schedule.epochs},
        default_hooks=dict.fromkeys(UNUSED_HOOKS),
        custom_hooks=[*hooks, *own],
        env_cfg={"mp_cfg": {"mp_start_method": torch.multiprocessing.get_start_method(allow_none=True) or "fork"}},
        log_level="WARNING",
        visualizer={"type": "Visualizer", "vis_backends": []},
        randomness={"seed": schedule.seed},
        experiment_name=f"training-{uuid.uuid4().hex}",  # the runner keeps global state under this name
    )
    try:
        with one_line_errors():
            runner.train()
    except TrainingDiverged:
        shutil.rmtree(partial.parent)  # the same again, if resumed
        raise
    model.load_state_dict(end.averaged(runner).state_dict())
    # As it is loaded from a file: the last digits of its outputs depend on it, and tied weights are saved only so.
    model.cpu().to(memory_format=torch.contiguous_format).eval()
    return Trained(schedule.epochs, end.curve[-1]["seconds"])


class _QuietRunner(Runner):  # type: ignore[misc]  # mmengine has no types
    """Without the list of the machine's compilers and drivers, which takes a second and runs other programs."""

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        pass


def _clipping(schedule: Schedule) -> dict[str, float] | None:
    return None if schedule.max_grad_norm is None else {"max_norm": schedule.max_grad_norm}


def _average(schedule: Schedule) -> EMAHook | None:
    if not schedule.ema_decay:  # 0: an average of the newest weights alone
        return None
    return EMAHook(momentum=1 - schedule.ema_decay, update_buffers=True)


def _remove_others(partial: Path) -> None:
    others: Iterable[Path] = partial.parent.iterdir() if partial.parent.is_dir() else ()
    for other in others:
        if other != partial:
            shutil.rmtree(other)
