"""Weights in front of BatchNorm, at the length that they had before a gate's mean was folded into them."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from surgery.errors import SurgeryError, one_line
from surgery.observing.names import behaves_as
from surgery.operating.comparing import difference
from surgery.operating.example import Example
from surgery.operating.verify import output_of, same_within
from surgery.record import Plan

ROUNDINGS = 10  # of one edit, that those of all layers may add up to


@dataclass(frozen=True)
class Lengths:
    """Convolutions whose weights have their length again, and those that keep another one, with the reason."""

    layers: tuple[str, ...]
    left: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def lengthen(lite: nn.Module, source: nn.Module, plan: Plan, example_inputs: Any) -> Lengths:
    """Give convolutions of ``lite`` that a gate's mean was folded into the length of their weights in ``source``.

    That is for a training to come, and changes nothing of what the model gives: BatchNorm, which alone reads them,
    undoes any scale, and its statistics are scaled along. But gradients grow as such weights get shorter, and a step
    turns them by the inverse square of their length (van Laarhoven 2017, L2 regularization versus batch and weight
    normalization). Call it last: ``refit`` and ``reconstruct`` compare what layers give with the source's. Changes
    ``lite`` in place; where its output on the example inputs changes all the same, nothing is done.

    Raises SurgeryError where the model fails on the example inputs.
    """
    example = Example.of(example_inputs)
    if example is None:
        raise SurgeryError("lengthen: no example inputs; give one image of model inputs")
    folded = list(_folded(plan))
    if not folded:
        return Lengths((), ())
    before = {name: value.clone() for name, value in lite.state_dict().items()}
    layers: list[str] = []
    left: list[tuple[str, str]] = []
    try:
        expected = output_of(lite, example)
        for name, norm in folded:
            reason = _lengthen(lite, source, name, norm)
            if reason:
                left.append((name, reason))
            else:
                layers.append(name)
        change = difference(expected, output_of(lite, example)) if layers else 0.0
    except Exception as error:  # the model's own forward may raise anything
        lite.load_state_dict(before)
        raise SurgeryError(f"lengthen: {one_line(error)}") from error
    if change > ROUNDINGS * same_within(expected):
        lite.load_state_dict(before)
        left += [(name, f"the model's output would change by {change:.1g} of its largest") for name in layers]
        layers = []
    return Lengths(tuple(layers), tuple(left))


def _folded(plan: Plan) -> Iterator[tuple[str, str]]:
    """Convolutions and the BatchNorm that alone reads each, once."""
    folds = [edit.params for edit in plan.edits if edit.rule == "fold_channel_scale"]
    yield from {params["into"]: params["norm"] for params in folds if "norm" in params}.items()


def _lengthen(lite: nn.Module, source: nn.Module, name: str, norm_name: str) -> str:
    """Why it cannot be done, or nothing."""
    layers, others = dict(lite.named_modules()), dict(source.named_modules())
    layer, norm, other = layers.get(name), layers.get(norm_name), others.get(name)
    if not isinstance(layer, nn.Conv2d) or not behaves_as(layer, nn.Conv2d) or not _is_plain(layer, "weight", "bias"):
        return "it is no plain convolution"
    if layer.groups > 1:
        return "it is grouped, and BatchNorm scales each filter by itself"
    if not isinstance(norm, _BatchNorm) or not _is_plain(norm, "running_mean", "running_var"):
        return "what reads it is no BatchNorm with statistics"
    if not isinstance(other, nn.Conv2d) or other.weight.shape != layer.weight.shape:
        return "the source has no such convolution"
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        factor = float(other.weight.double().norm() / layer.weight.double().norm())
        if not 1 < factor < torch.inf:
            return "its weights are no shorter than in the source"
        # BatchNorm adds eps to the variance, which does not scale: with this it gives exactly what it gave.
        variance = (norm.running_var.double() + norm.eps) * factor**2 - norm.eps
        longer = {norm.running_mean: norm.running_mean.double() * factor, norm.running_var: variance}
        longer |= {layer.weight: layer.weight.double() * factor}
        longer |= {} if layer.bias is None else {layer.bias: layer.bias.double() * factor}
        if not all(bool(value.to(tensor.dtype).isfinite().all()) for tensor, value in longer.items()):
            return "its statistics would be too large for their type"
        for tensor, value in longer.items():
            tensor.copy_(value)
    return ""


def _is_plain(layer: nn.Module, *names: str) -> bool:
    """Whether these are tensors of its own, which nothing computes, and nobody looks at what it receives or gives."""
    held = {**layer._parameters, **layer._buffers}
    hooked = layer._forward_hooks or layer._forward_pre_hooks
    is_own = all(isinstance(held.get(name), Tensor) or (name == "bias" and name in held) for name in names)
    return is_own and not hooked
