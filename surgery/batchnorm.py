"""BatchNorm statistics measured anew, as stochastic weight averaging does (Izmailov et al. 2018, section 3.2)."""

import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from surgery.operating.example import call_with
from surgery.operating.modes import restored_modes
from surgery.operating.undo import preserved


def reestimate_batchnorm(model: nn.Module, batches: Iterable[Any]) -> None:
    """Replace every running mean and variance by its average over ``batches`` of model inputs.

    A batch is a tensor, a tuple of positional inputs or a dict of keyword inputs.

    Changes ``model`` in place; layers without running statistics, dropout and train/eval flags stay as they are, and
    so do layers that no batch reaches or that get one value per channel, of which no variance can be measured.
    """
    measure_statistics(model, [m for m in model.modules() if isinstance(m, _BatchNorm)], batches)


def measure_statistics(model: nn.Module, layers: Iterable[_BatchNorm], batches: Iterable[Any]) -> None:
    """``reestimate_batchnorm`` of some of the model's layers."""
    layers = [layer for layer in layers if layer.running_mean is not None]
    batches = iter(batches)
    first = next(batches, None)
    if first is None or not layers:
        return
    measured = _measured(model, layers, itertools.chain([first], batches))
    for layer, statistics in zip(layers, measured, strict=True):
        if statistics["num_batches_tracked"]:
            layer.load_state_dict(statistics, strict=False)


def _measured(model: nn.Module, layers: list[_BatchNorm], batches: Iterable[Any]) -> list[dict[str, Tensor]]:
    """The buffers of each layer after the batches, without a trace of them in the model."""
    with preserved(model), restored_modes(model), torch.no_grad():
        model.eval()
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # cumulative average
            layer.train()
        for batch in batches:
            call_with(model, batch)
        return [{name: value.clone() for name, value in layer.named_buffers(recurse=False)} for layer in layers]
