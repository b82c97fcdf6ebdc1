"""What happens beside the optimisation: learning rate, divergence, evaluation, curve and checkpoints."""

import json
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import EMAHook, Hook
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from zoo import progress
from zoo.atomic import write_text
from zoo.errors import TrainingDiverged
from zoo.schedule import Schedule
from zoo.training import checkpoints, devices
from zoo.training.numerics import Numerics
from zoo.training.optimizer import learning_rate

Evaluate = Callable[[nn.Module], float]  # a model in eval mode -> its accuracy, 0-1


@dataclass
class Pace(Hook):  # type: ignore[misc]  # mmengine has no types
    """Sets the learning rate of each iteration, and stops where the loss or all gradients are not finite."""

    schedule: Schedule
    losses: list[float] = field(default_factory=list)  # of the running epoch

    def before_train_epoch(self, runner: Any) -> None:
        # Dropout draws from the global generator: seeding each epoch makes a resumed run the same as an unbroken one.
        device = f"/{devices.rank()}" if devices.rank() else ""
        torch.manual_seed(random.Random(f"{self.schedule.seed}/{runner.epoch}{device}").getrandbits(63))
        self.losses.clear()

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        rate = learning_rate(self.schedule, runner.iter, len(runner.train_dataloader))
        for group in runner.optim_wrapper.param_groups:
            group["lr"] = rate

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, torch.Tensor] | None = None
    ) -> None:
        assert outputs is not None
        loss = outputs["loss"].item()
        if not math.isfinite(loss):
            raise self._diverged(runner, batch_idx + 1, f"the loss is {loss}")
        if runner.optim_wrapper.is_lost:
            raise self._diverged(runner, batch_idx + 1, "gradients are not finite however the loss is scaled")
        self.losses.append(loss)

    def after_train_epoch(self, runner: Any) -> None:
        # The last loss was finite, but what its step made of the weights need not be.
        if not all(bool(parameter.isfinite().all()) for parameter in runner.model.parameters()):
            raise self._diverged(runner, len(self.losses), "weights are not finite after it")

    def _diverged(self, runner: Any, iteration: int, fact: str) -> TrainingDiverged:
        rate, peak = runner.optim_wrapper.param_groups[0]["lr"], self.schedule.optimizer.lr
        return TrainingDiverged(
            f"epoch {runner.epoch + 1}, iteration {iteration}: {fact} at learning rate {rate:.3g}; lower the "
            f"schedule's optimizer.lr (a recipe can: train.lr), to {peak / 4:.2g} for example, or lengthen its "
            "warmup_epochs"
        )


@dataclass
class EpochEnd(Hook):  # type: ignore[misc]
    """Evaluates after each epoch, writes the curve, reports, and saves what resuming needs.

    Where several devices train together, the first of them does and the others wait for it.
    """

    name: str  # the model's, for people
    metric: str  # what is evaluated
    evaluate: Evaluate
    folder: Path  # curve.jsonl and tensorboard/
    partial: Path  # checkpoints
    pace: Pace
    average: EMAHook | None
    numerics: Numerics
    curve: list[dict[str, float]] = field(default_factory=list)

    priority = "VERY_LOW"

    def before_train(self, runner: Any) -> None:
        if (state := checkpoints.newest(self.partial)) is not None:
            runner.model.load_state_dict(state["learner"])
            runner.optim_wrapper.load_state_dict(state["optimizer"])
            if self.average is not None:
                self.average.ema_model.load_state_dict(state["average"])
            self.curve = state["curve"]
            self.numerics.load_state_dict(state["numerics"])
            runner.train_loop._epoch = len(self.curve)
            runner.train_loop._iter = len(self.curve) * len(runner.train_dataloader)
        self.meeting = devices.Meeting()
        self.meeting.wait()  # nothing is written before all have read it
        if not devices.is_first():
            return
        if self.curve:
            self._write_curve()
        self.writer = SummaryWriter(str(self.folder / "tensorboard"))
        for row in self.curve:
            self._plot(row)
        self.started = time.monotonic()
        self.before = self.seconds

    def after_train_epoch(self, runner: Any) -> None:
        if devices.is_first():
            self._end_epoch(runner)
        self.meeting.wait()

    def after_train(self, runner: Any) -> None:
        if devices.is_first():
            self.writer.close()

    @property
    def seconds(self) -> float:
        """Wall time up to the last epoch's end, that of interrupted runs included; 0 where another device keeps it."""
        return self.curve[-1]["seconds"] if self.curve else 0.0

    def averaged(self, runner: Any) -> nn.Module:
        """The model that is evaluated and kept: the moving average where there is one."""
        learner = runner.model if self.average is None else self.average.ema_model.module
        student: nn.Module = learner.student
        return student

    def _end_epoch(self, runner: Any) -> None:
        row = {
            "epoch": runner.epoch + 1,
            "loss": sum(self.pace.losses) / len(self.pace.losses),
            "lr": runner.optim_wrapper.param_groups[0]["lr"],
            self.metric: self.evaluate(self.averaged(runner)),
            "seconds": round(self.before + time.monotonic() - self.started, 3),
        }
        self.curve.append(row)
        self._write_curve()
        self._plot(row)
        self._save(runner)
        progress.report(
            f"{self.name}: epoch {row['epoch']}/{runner.max_epochs}, loss {row['loss']:.3f}, {self.metric} "
            f"{row[self.metric]:.1%}",
            row["epoch"] / runner.max_epochs,
        )

    def _write_curve(self) -> None:
        write_text(self.folder / "curve.jsonl", "".join(json.dumps(row, sort_keys=True) + "\n" for row in self.curve))

    def _plot(self, row: Mapping[str, float]) -> None:
        for figure in ("loss", "lr", self.metric):
            self.writer.add_scalar(figure, row[figure], int(row["epoch"]))
        self.writer.flush()

    def _save(self, runner: Any) -> None:
        state = {
            "learner": runner.model.state_dict(),
            "optimizer": runner.optim_wrapper.state_dict(),
            "average": None if self.average is None else self.average.ema_model.state_dict(),
            "curve": self.curve,
            "numerics": self.numerics.state_dict(),
        }
        checkpoints.save(self.partial, runner.epoch + 1, state)
