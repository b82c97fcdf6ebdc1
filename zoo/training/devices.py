"""The processes that train one model together, one for each device: which of them this is, and what they do as one.

A process that nobody joined is the first and only one. Gradients, losses and BatchNorm's sums go through torch's own
process group. Waiting for the first process, which evaluates for as long as it takes, goes through another, without a
limit that an evaluation could meet.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from zoo.errors import StepError

WAITING = timedelta(days=30)


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this process is the one that evaluates and writes."""
    return rank() == 0


@contextmanager
def joined() -> Iterator[None]:
    """Train with the other processes that torchrun started, on the GPU of this one's number where there are GPUs.

    Raises StepError where a machine has GPUs, but fewer than processes.
    """
    local, here = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        if here > torch.cuda.device_count():
            raise StepError(
                f"launch: {here} devices where this machine has {torch.cuda.device_count()} GPUs; lower devices"
            )
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    yield
    dist.destroy_process_group()  # not after an error: it would wait for the others, who wait for this one


def agree(value: str, what: str) -> None:
    """Raises StepError where the processes do not all have the same value: ``what`` says of what it is the sign."""
    values: list[Any] = [None] * count()
    dist.all_gather_object(values, value)
    if len(set(values)) > 1:
        raise StepError(f"the nodes have different {what}; build with the same checkout and artifacts folder on all")


class Meeting:
    """Where the processes wait for each other, however long one of them takes. All must make one at the same time."""

    def __init__(self) -> None:
        self._group: Any = dist.new_group(backend="gloo", timeout=WAITING) if count() > 1 else None

    def wait(self) -> None:
        """Until every process is here."""
        if self._group is not None:
            dist.barrier(group=self._group)


def mean(figure: Tensor) -> Tensor:
    """The mean of a tensor over the processes, the same in each of them."""
    if count() > 1:
        figure = figure.clone()
        dist.all_reduce(figure)
        figure /= count()
    return figure


def average_gradients(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Put the mean over the processes in place of each gradient, in one exchange for each of their types.

    A parameter that some process did not use has gradient 0 there; one that none used keeps none.
    """
    if count() == 1 or not parameters:
        return
    used = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.uint8)
    used = used.to(parameters[0].device)
    dist.all_reduce(used, dist.ReduceOp.MAX)
    gradients: dict[torch.dtype, list[Tensor]] = {}
    for parameter, is_used in zip(parameters, used.tolist(), strict=True):
        if is_used:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            gradients.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for own in gradients.values():
        together = torch.cat([gradient.reshape(-1) for gradient in own])
        dist.all_reduce(together)
        together /= count()
        for gradient, averaged in zip(own, torch.split(together, [each.numel() for each in own]), strict=True):
            gradient.copy_(averaged.view(gradient.shape))
