"""The optimizer and the learning rate, as a schedule says."""

import math
from typing import Any

import torch
from torch import nn

from zoo.schedule import Decay, Schedule


def optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """SGD or AdamW over the model's parameters.

    Weight decay is for matrices and kernels alone; biases, BatchNorm's scales and other vectors are left free, as in
    Goyal et al. 2017, section 5.3.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    settings = schedule.optimizer
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.type == "AdamW":
        return torch.optim.AdamW(groups, lr=settings.lr, betas=(settings.momentum, 0.999))
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov)


def learning_rate(schedule: Schedule, iteration: int, per_epoch: int) -> float:
    """Linear from lr / n up to lr over the n iterations of warm-up, then along the schedule's decay.

    A function of the iteration (from 0) alone, so that resuming has no state to restore. What the decay ends at is
    reached with the first iteration of its floor, or after the last one where it has none.
    """
    peak, decay = schedule.optimizer.lr, schedule.decay
    last = schedule.epochs * per_epoch
    warmup = min(round(schedule.warmup_epochs * per_epoch), last)
    if iteration < warmup:
        return peak * (iteration + 1) / warmup
    start, end = max(warmup, round(decay.flat * last)), last - round(decay.floor * last)
    if iteration < start:
        return peak
    left = _remaining(decay, iteration - start, end - start) if iteration < end else 0.0
    return peak * (decay.final + (1 - decay.final) * left)


def _remaining(decay: Decay, done: int, iterations: int) -> float:
    """What is left of the way from the peak to the final rate: from 1 to 0."""
    if decay.shape == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done / iterations))
    left: float = (1 - done / iterations) ** (decay.power if decay.shape == "poly" else 1.0)
    return left
