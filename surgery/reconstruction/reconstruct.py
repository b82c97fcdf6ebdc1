"""Blocks fitted by gradient to what they gave in the source, each by itself: no labels, no end-to-end training."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from surgery.batchnorm import reestimate_batchnorm
from surgery.errors import SurgeryError, one_line
from surgery.operating.modes import restored_modes
from surgery.reconstruction.blocks import blocks

LEARNING_RATE = 1e-3  # of AdamW, falling to zero


@dataclass(frozen=True)
class Block:
    """A block's mean square error over the variance of what it gave in the source, in the first and last steps."""

    name: str  # "": the whole model
    before: float
    after: float


@dataclass(frozen=True)
class Reconstruction:
    """What was fitted, and how far."""

    blocks: tuple[Block, ...]
    steps: int
    images: int  # different ones
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """JSON values, the same for the same models and images: without the time it took."""
        return {name: value for name, value in asdict(self).items() if name != "seconds"}


def reconstruct(
    lite: nn.Module,
    source: nn.Module,
    batches: Iterable[Tensor],
    steps: int,
    *,
    lr: float = LEARNING_RATE,
    statistics: bool = True,
) -> Reconstruction:
    """Fit the blocks of ``lite`` in place to those of ``source``, from which surgery made it, as Li et al. 2021 (BRECQ)
    do for quantisation.

    In each of the steps one of the batches of model inputs goes through both models; every block is moved towards what
    it gave in the source, on what the blocks before it give in ``lite``, and no gradient leaves it. With ``statistics``
    BatchNorm works on the batch, and has its own measured anew on all batches in the end; without, it works on those it
    has, which stay. Dropout and the like do nothing, and frozen parameters stay. Batches smaller than the largest are
    left out.

    Raises SurgeryError where there are no steps or batches, the models have no block in common, one of them fails on
    the batches or the error is not finite; ``lite`` is then as it was.
    """
    start = perf_counter()
    if steps < 1:
        raise SurgeryError(f"reconstruct: {steps} steps fit nothing; give at least one")
    given = list(batches)
    if not given or not all(isinstance(batch, Tensor) and batch.ndim and len(batch) for batch in given):
        raise SurgeryError("reconstruct: give batches that are tensors of model inputs, at least one")
    largest = max(map(len, given))
    given = [batch for batch in given if len(batch) == largest]  # of one image alone BatchNorm has no statistics
    before = {name: value.clone() for name, value in lite.state_dict().items()}
    try:
        with torch.inference_mode(False), restored_modes(source), restored_modes(lite), _gradients(lite):
            source.eval()
            lite.eval()
            names = blocks(lite, source, given[0])
            if not names:
                raise SurgeryError("reconstruct: the models have no block in common")
            if statistics:
                _use_batches(lite)
            errors = _fit(lite, source, names, islice(cycle(given), steps), steps, lr)
        if statistics:
            reestimate_batchnorm(lite, given)
    except SurgeryError:
        lite.load_state_dict(before)
        raise
    except Exception as error:  # the models' own forward may raise anything
        lite.load_state_dict(before)
        raise SurgeryError(f"reconstruct: a model fails on the batches: {one_line(error)}") from error
    few = max(1, steps // 10)
    fitted = tuple(Block(name, _mean(told[:few]), _mean(told[-few:])) for name, told in errors.items())
    return Reconstruction(fitted, steps, sum(map(len, given[:steps])), perf_counter() - start)


@contextmanager
def _gradients(model: nn.Module) -> Iterator[None]:
    """Inside, gradients are computed; those there were before are put back."""
    kept = [(parameter, parameter.grad) for parameter in model.parameters()]
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter, gradient in kept:
            parameter.grad = gradient


def _use_batches(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.train()


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _fit(
    lite: nn.Module, source: nn.Module, names: tuple[str, ...], batches: Iterable[Tensor], steps: int, lr: float
) -> dict[str, list[float]]:
    """The relative errors of each block, by step."""
    optimizer = torch.optim.AdamW([p for p in lite.parameters() if p.requires_grad], lr=lr, weight_decay=0)
    wanted: dict[str, Tensor] = {}
    missed: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> None:
        wanted[name] = output.clone()  # an activation behind it may work in place

    def compare(name: str, output: Tensor) -> Tensor:
        target = wanted[name]
        missed[name] = (output - target).square().mean() / target.var(correction=0).clamp_min(1e-12)
        return output.detach().clone()

    errors: dict[str, list[float]] = {name: [] for name in names}
    with _seen(source, names, keep), _seen(lite, names, compare):
        for step, batch in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = lr * (1 - step / steps)
            with torch.no_grad():
                source(batch)
            missed.clear()
            lite(batch)
            total = torch.stack(list(missed.values())).sum()
            if not math.isfinite(total.item()):
                raise SurgeryError(f"reconstruct: the error is {total.item()} in step {step + 1}; lower lr, {lr:g}")
            optimizer.zero_grad()
            torch.autograd.backward(total)
            optimizer.step()
            for name, error in missed.items():
                errors[name].append(error.item())
    return errors


@contextmanager
def _seen(model: nn.Module, names: Iterable[str], look: Any) -> Iterator[None]:
    """Inside, ``look(name, output)`` sees what each of the modules gives, and may give something else."""
    modules: Mapping[str, nn.Module] = dict(model.named_modules())
    hooks = []
    for name in names:
        seen = lambda module, args, output, name=name: look(name, output)  # noqa: E731
        hooks.append(modules[name].register_forward_hook(seen))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
