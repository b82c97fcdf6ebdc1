"""BatchNorm statistics measured anew, as stochastic weight averaging does (Izmailov et al. 2018, section 3.2)."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from surgery.operating.example import call_with
from surgery.operating.modes import restored_modes


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
    momenta = [layer.momentum for layer in layers]
    before = [{name: value.clone() for name, value in layer.named_buffers(recurse=False)} for layer in layers]
    try:
        with restored_modes(model), torch.no_grad():
            model.eval()
            for layer in layers:
                layer.reset_running_stats()
                layer.momentum = None  # cumulative average
                layer.train()
            call_with(model, first)
            for batch in batches:
                call_with(model, batch)
    finally:
        for layer, momentum, buffers in zip(layers, momenta, before, strict=True):
            layer.momentum = momentum
            if layer.num_batches_tracked == 0:
                layer.load_state_dict(buffers, strict=False)
