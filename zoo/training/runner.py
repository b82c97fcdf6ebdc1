"""Training with mmengine's Runner: one call that ends with trained weights, however often it is killed on the way.

The weights kept are those after the last epoch (their moving average where the schedule has one). None are chosen by
their accuracy on the validation set: that would flatter it.
"""

import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from zoo.errors import TrainingDiverged
from zoo.schedule import Schedule
from zoo.training import devices, divergence
from zoo.training.hooks import EpochEnd, Evaluate, Pace
from zoo.training.images import one_line_errors
from zoo.training.learner import Learner, Objective, accelerator
from zoo.training.numerics import Numerics, chosen
from zoo.training.optimizer import optimizer
from zoo.training.stepping import Stepping

# The runner's own logging, timing and checkpoints give way to zoo.training.hooks: its checkpoints are pickles that
# torch >= 2.6 refuses to load, and are not written atomically.
UNUSED_HOOKS = ("runtime_info", "timer", "logger", "param_scheduler", "checkpoint")


@dataclass(frozen=True)
class Trained:
    """How a training went."""

    epochs: int
    seconds: float  # wall time, that of interrupted runs up to their last checkpoint included
    stages: tuple[str, ...] = ()  # modules whose features a teacher taught
    under: Mapping[str, bool | int | float | str] = field(default_factory=dict)  # batch size, rate, precision ...


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
    compiled: str = "",
) -> Trained:
    """Train ``model`` in place, on the accelerator where there is one, and leave it on the CPU in eval mode.

    Where several processes train together (zoo.training.devices), each calls this with its share of the images; the
    first one evaluates and writes, and all have the same weights afterwards.

    Writes ``curve.jsonl`` and ``tensorboard/`` into ``folder``, and a checkpoint after each epoch under
    ``folder/partial/<key>``, from which a later call with the same key goes on. They stay, for a kill before the caller
    has saved the weights: removing ``folder/partial`` is the caller's last act. Those of other keys are removed at the
    start. ``metric`` is what ``evaluate`` measures; ``name`` is for people. ``hooks`` are the task's own: what they do
    must depend on the iteration alone. Weights are in ``memory_format`` meanwhile, unless the schedule says otherwise;
    ``compiled`` names the part of the model that is compiled where it asks for that, all of it without a name.

    Raises TrainingDiverged where the loss is not finite, and again where that is what an earlier call with the same key
    ended with; DatasetError where an image cannot be decoded; UnusableFile where a checkpoint cannot be written.
    """
    partial = folder / "partial" / key[:16]
    if devices.is_first():
        _remove_others(partial)
    divergence.refuse(partial)
    numerics = chosen(schedule, accelerator(), memory_format, devices.count())
    model.to(memory_format=numerics.memory_format)
    learner = Learner(model, objective, numerics, schedule.accumulate, compiled)
    pace = Pace(schedule)
    average = _average(schedule)
    end = EpochEnd(name, metric, evaluate, folder, partial, pace, average, numerics)
    own = [pace, end] if average is None else [pace, average, end]
    runner = _QuietRunner(
        model=learner,
        work_dir=str(partial / "runner"),
        train_dataloader=loader,
        optim_wrapper=Stepping(optimizer(learner, schedule), schedule, numerics.scaler(accelerator())),
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
    except TrainingDiverged as error:
        told = divergence.remembered(partial, error)
        end.meeting.wait()  # a process that ends takes the others with it
        raise told from None
    finally:
        learner.release()
    model.load_state_dict(end.averaged(runner).state_dict())
    # As it is loaded from a file: the last digits of its outputs depend on it, and tied weights are saved only so.
    model.cpu().to(memory_format=torch.contiguous_format).eval()
    return Trained(schedule.epochs, end.seconds, under=_under(schedule, numerics))


class _QuietRunner(Runner):  # type: ignore[misc]  # mmengine has no types
    """Without the list of the machine's compilers and drivers, which takes a second and runs other programs."""

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        pass


def _under(schedule: Schedule, numerics: Numerics) -> dict[str, bool | int | float | str]:
    """What the weights depend on beside the data, as it was and not as it was asked for."""
    return {
        "batch_size": schedule.batch_size,
        "accumulate": schedule.accumulate,
        "learning_rate": schedule.optimizer.lr,
        "precision": numerics.precision,
        "channels_last": numerics.memory_format == torch.channels_last,
        "compiled": numerics.compiled,
        "fell_back": "; ".join(numerics.fell_back),
    }


def _average(schedule: Schedule) -> EMAHook | None:
    if not schedule.ema_decay:  # 0: an average of the newest weights alone
        return None
    return EMAHook(momentum=1 - schedule.ema_decay, update_buffers=True)


def _remove_others(partial: Path) -> None:
    others: Iterable[Path] = partial.parent.iterdir() if partial.parent.is_dir() else ()
    for other in others:
        if other != partial:
            shutil.rmtree(other)
