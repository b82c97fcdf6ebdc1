"""Transposed convolutions, as convolutions and a rearrangement."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from surgery.observing.evidence import Evidence
from surgery.record import Refusal
from surgery.rule import Example, Promise, Rule, Stage
from surgery.rule_parts.operator_names import TRANSPOSED
from surgery.rule_parts.plain_convolution import (
    Crop2d,
    Sides,
    in_sequence,
    is_plain,
    padded,
    padding_layers,
    plain,
    with_settings_of,
)
from surgery.rule_parts.tied import tied_to

# Kernels that accelerators run themselves, with stride 2.
_FINE = {(2, 2), (3, 3), (4, 4)}


class DepthToSpace(nn.Module):
    """Each pixel's channels become a block of pixels: (..., C * a * b, H, W) to (..., C, a * H, b * W).

    Written as reshape and transpose, which more devices know than the operator of that name.
    """

    def __init__(self, block: Sequence[int]) -> None:
        super().__init__()
        self.block = tuple(block)

    def forward(self, input: Tensor) -> Tensor:
        """Channel c * a * b + i * b + j becomes row i and column j of each block of channel c."""
        split = torch.unflatten(input, -3, (-1, *self.block))
        return split.movedim((-2, -1), (-4, -2)).flatten(-2).flatten(-3, -2)

    def extra_repr(self) -> str:
        """Rows and columns of a block."""
        return str(self.block)


class TransposedToFriendly(Rule):
    """Beyond 2x2 to 4x4 with stride 2, few devices know it; a convolution with depth to space is the same function."""

    name = "transposed_to_friendly"
    promise = Promise.SAME_OUTPUT
    removes = TRANSPOSED
    emits = frozenset({"convolution", "constant_pad_nd", "slice", "permute"})
    stage = Stage.BLOCK  # what it makes may have a large kernel

    def examples(self) -> Sequence[Example]:
        """Strides 1 to 4, dilation, groups, output padding; what devices run themselves stays."""
        shape = (2, 4, 5, 6)
        conv = partial(nn.ConvTranspose2d, 4, 4)
        unfriendly: list[dict[str, Any]] = [
            {"kernel_size": 4, "stride": 4},
            {"kernel_size": 8, "stride": 4, "padding": 2},
            {"kernel_size": 3, "stride": 1, "padding": 1},
            {"kernel_size": (5, 2), "stride": (3, 1), "groups": 2, "output_padding": (2, 0), "bias": False},
            {"kernel_size": 3, "stride": 2, "dilation": 2, "padding": 1, "groups": 4},
        ]
        fine: list[dict[str, Any]] = [{"kernel_size": 2, "stride": 2}, {"kernel_size": 4, "stride": 2, "padding": 1}]
        return [
            *(Example(partial(conv, **settings), shape, 1) for settings in unfriendly),
            *(Example(partial(conv, **settings), shape, 0) for settings in fine),
        ]

    def matches(self, module: nn.Module) -> bool:
        """All that is beyond the kernels that devices run themselves."""
        if not is_plain(module, nn.ConvTranspose2d):
            return False
        assert isinstance(module, nn.ConvTranspose2d)
        return not (module.kernel_size in _FINE and module.stride == (2, 2) and module.dilation == (1, 1))

    def params(self, module: nn.Module, name: str, evidence: Evidence) -> Mapping[str, Any] | Refusal:
        """Nothing to know but the module; an output size in the call is nothing that a convolution takes."""
        run, reason = evidence.run(name), tied_to(evidence, module)
        if run is not None and (len(run.args) > 1 or "output_size" in run.kwargs):
            return Refusal(self.name, name, "it is called with an output size")
        return {} if reason is None else Refusal(self.name, name, reason)

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """Convolution, depth to space where there is a stride, and a crop where blocks reach beyond the output."""
        assert isinstance(module, nn.ConvTranspose2d)
        height, width = (_axis(module, axis) for axis in range(2))
        block = (height.stride, width.stride)
        weight = _phases(_phases(_by_output(module), 2, height), 3, width)  # (O, I, kH, kW, sH, sW)
        weight = weight.permute(0, 4, 5, 1, 2, 3).flatten(0, 2)
        bias = None if module.bias is None else module.bias.detach().repeat_interleave(block[0] * block[1])
        conv = plain(weight, bias, module, groups=module.groups)
        surplus = Sides.of(height.surplus, width.surplus)
        layers = _around(conv, Sides.of(height.padding, width.padding))
        layers += [DepthToSpace(block)] if block != (1, 1) else []
        layers += [Crop2d(surplus.padding())] if surplus else []
        return with_settings_of(module, in_sequence(layers))


class _Axis:
    """One axis of a transposed convolution: y[o] is the sum of x[i] w[t] over i * stride + t * dilation = o + padding.

    With o + padding = stride * q + r, block q of the output is a convolution of x for each r, with taps j = q - i where
    t * dilation = stride * j + r.
    """

    def __init__(self, taps: int, stride: int, padding: int, output_padding: int, dilation: int) -> None:
        self.stride = stride
        reach = dilation * (taps - 1)
        self.taps = reach // stride + 1
        self.places = [divmod(t * dilation, stride) for t in range(taps)]  # (j, r)
        first = padding // stride  # blocks before it are cropped in whole
        beyond = (reach + output_padding - padding) // stride  # blocks after the last pixel's own
        self.padding = (self.taps - 1 - first, beyond)
        begin = padding % stride
        self.surplus = (begin, stride * (1 - first + beyond) - begin - (1 - 2 * padding + reach + output_padding))


def _around(conv: nn.Conv2d, amount: Sides) -> list[nn.Module]:
    """The convolution after zeros around its input, or a crop where an amount is negative."""
    height, width = (amount.top, amount.bottom), (amount.left, amount.right)
    less = Sides.of(*((max(0, -before), max(0, -after)) for before, after in (height, width)))
    more = Sides.of(*((max(0, before), max(0, after)) for before, after in (height, width)))
    return [*padding_layers(more), Crop2d(less.padding()), conv] if less else [padded(conv, more)]


def _axis(conv: nn.ConvTranspose2d, axis: int) -> _Axis:
    settings = (conv.kernel_size, conv.stride, conv.padding, conv.output_padding, conv.dilation)
    return _Axis(*(int(setting[axis]) for setting in settings))


def _by_output(conv: nn.ConvTranspose2d) -> Tensor:
    """The weight (I, O / groups, kH, kW) as (O, I / groups, kH, kW)."""
    weight = torch.unflatten(conv.weight.detach(), 0, (conv.groups, -1))
    return weight.transpose(1, 2).flatten(0, 1)


def _phases(weight: Tensor, dim: int, axis: _Axis) -> Tensor:
    """Taps along ``dim`` become a convolution's taps there, of which each remainder r has its own, in a last axis."""
    shape = list(weight.shape)
    shape[dim] = axis.taps
    new = weight.new_zeros([*shape, axis.stride])
    for tap, (block, remainder) in enumerate(axis.places):
        # A convolution runs from the last block that an input pixel touches to the first.
        new.select(-1, remainder).select(dim, axis.taps - 1 - block).copy_(weight.select(dim, tap))
    return new
