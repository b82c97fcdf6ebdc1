"""The optimizer and the learning rate, as a schedule says."""

import math
from typing import Any

import torch
from torch import nn

from zoo.schedule import Schedule


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
    """Linear from lr / n up to lr over the n iterations of warm-up, then half a cosine down to 0 after the last one.

    A function of the iteration (from 0) alone, so that resuming has no state to restore.
    """
    peak = schedule.optimizer.lr
    last = schedule.epochs * per_epoch
    warmup = min(round(schedule.warmup_epochs * per_epoch), last)
    if iteration < warmup:
        return peak * (iteration + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (iteration - warmup) / max(1, last - warmup)))
