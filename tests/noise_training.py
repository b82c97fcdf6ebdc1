"""A training of a tiny model on noise, by the real runner: seconds at most, interrupted where a test says so."""

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import Tensor, nn

from zoo.config import Preprocessing
from zoo.schedule import Optimizer, Schedule
from zoo.training.images import Samples, training_loader
from zoo.training.learner import Objective
from zoo.training.runner import Trained, train

SIZE = 16
PREPROCESSING = Preprocessing(resize=SIZE, size=SIZE, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
SCHEDULE = Schedule(description="test", epochs=3, batch_size=4, optimizer=Optimizer(lr=0.02), ema_decay=0.8)
_SEEDS = count()


class Noise(Samples):
    """Twelve images of two classes, three batches of four."""

    def __init__(self) -> None:
        self.seed, self.kept = 0, {}

    def __len__(self) -> int:
        return 12

    def __getitem__(self, draw: Any) -> tuple[Tensor, int]:
        generator = torch.Generator().manual_seed(draw[1])
        return torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8, generator=generator), draw[1] % 2


class Killed(BaseException):
    """In place of a SIGKILL: nothing of ours catches it."""


def fit(
    model: nn.Module,
    objective: Objective,
    folder: Path,
    schedule: Schedule = SCHEDULE,
    *,
    hooks: Sequence[Hook] = (),
    evaluate: Callable[[nn.Module], float] = lambda model: 0.5,
    killed_after: int | None = None,
) -> Trained:
    """Train; with ``killed_after`` epochs, raise Killed when the one after them is evaluated."""
    evaluated = 0

    def evaluated_or_killed(student: nn.Module) -> float:
        nonlocal evaluated
        if evaluated == killed_after:
            raise Killed
        evaluated += 1
        return evaluate(student)

    torch.manual_seed(next(_SEEDS))  # another each time: nothing may depend on it
    loader = training_loader(Noise(), schedule.batch_size, 0)
    about = {"metric": "top1", "name": "tiny", "folder": folder, "key": "k" * 64}
    return train(model, objective, loader, evaluated_or_killed, schedule, **about, hooks=hooks)


def no_hooks(model: nn.Module) -> bool:
    """Whether no module has one, neither before nor after its forward."""
    return not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
