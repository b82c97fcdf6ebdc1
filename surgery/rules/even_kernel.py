"""Convolutions with an even kernel, which has no middle."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn
from torch.nn import functional as F

from surgery.observing.evidence import Evidence
from surgery.record import Refusal
from surgery.rule import Example, Promise, Rule
from surgery.rule_parts.operator_names import CONVOLUTION
from surgery.rule_parts.plain_convolution import (
    Pair,
    Sides,
    in_sequence,
    is_plain,
    padded,
    padding_layers,
    plain,
    sides,
    with_settings_of,
)
from surgery.rule_parts.tied import tied_to


class EvenKernelToOdd(Rule):
    """Some devices take even kernels not at all or not with a stride; one more row and column of zeros is the same."""

    name = "even_kernel_to_odd"
    promise = Promise.SAME_OUTPUT
    removes = CONVOLUTION
    emits = frozenset({"convolution", "constant_pad_nd"})
    default = False

    def examples(self) -> Sequence[Example]:
        """With either padding, one axis only, "same"; odd kernels and patches stay."""
        shape = (2, 4, 9, 10)
        conv = partial(nn.Conv2d, 4, 4)
        even: list[dict[str, Any]] = [
            {"kernel_size": 4, "padding": 1, "stride": 2},
            {"kernel_size": 6, "padding": 2, "stride": 2},
            {"kernel_size": (2, 3), "dilation": 2, "groups": 2},
            {"kernel_size": 4, "padding": "same", "dilation": 2},
            {"kernel_size": 2, "padding": 1, "padding_mode": "reflect"},
        ]
        left: list[dict[str, Any]] = [{"kernel_size": 3}, {"kernel_size": 2, "stride": 2}]
        return [
            *(Example(partial(conv, **settings), shape, 1) for settings in even),
            *(Example(partial(conv, **settings), shape, 0) for settings in left),
        ]

    def matches(self, module: nn.Module) -> bool:
        """An even side, unless patches do not overlap."""
        if not is_plain(module, nn.Conv2d):
            return False
        return any(n % 2 == 0 for n in module.kernel_size) and module.kernel_size != module.stride  # type: ignore[union-attr]

    def params(self, module: nn.Module, name: str, evidence: Evidence) -> Mapping[str, Any] | Refusal:
        """Nothing to know but the module."""
        reason = tied_to(evidence, module)
        return {} if reason is None else Refusal(self.name, name, reason)

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """Zeros on the side that leaves the padding symmetric, if there is one; else after the last tap."""
        assert isinstance(module, nn.Conv2d)
        amount = sides(module)
        own = [(amount.top, amount.bottom), (amount.left, amount.right)]
        grown = [_grown(*axis) for axis in zip(module.kernel_size, own, strict=True)]
        (above, below), (before, after) = grown
        weight = F.pad(module.weight.detach(), (before, after, above, below))
        down, right = module.dilation
        extra = Sides(above * down, below * down, before * right, after * right)
        conv = plain(weight, module.bias, module, stride=module.stride, dilation=module.dilation, groups=module.groups)
        if module.padding_mode != "zeros":
            layers = [*padding_layers(amount, module.padding_mode), padded(conv, extra)]
            return with_settings_of(module, in_sequence(layers))
        total = [a + b for a, b in zip(amount.padding(), extra.padding(), strict=True)]
        return with_settings_of(module, padded(conv, Sides.from_padding(total)))


class EvenPatchToOdd(EvenKernelToOdd):
    """Some devices take no even kernel with a stride, not even of patches that do not overlap; a row and a column of
    zeros more is the same."""

    name = "even_patch_to_odd"

    def examples(self) -> Sequence[Example]:
        """Patches of either size and of one side that is even; overlapping kernels and odd patches stay."""
        shape = (2, 4, 9, 12)
        conv = partial(nn.Conv2d, 4, 4)
        even: list[dict[str, Any]] = [
            {"kernel_size": 2, "stride": 2},
            {"kernel_size": 4, "stride": 4, "bias": False},
            {"kernel_size": (2, 3), "stride": (2, 3), "groups": 2},
        ]
        left: list[dict[str, Any]] = [{"kernel_size": 3, "stride": 3}, {"kernel_size": 4, "stride": 2}]
        return [
            *(Example(partial(conv, **settings), shape, 1) for settings in even),
            *(Example(partial(conv, **settings), shape, 0) for settings in left),
        ]

    def matches(self, module: nn.Module) -> bool:
        """An even side, where patches do not overlap."""
        if not is_plain(module, nn.Conv2d):
            return False
        return any(n % 2 == 0 for n in module.kernel_size) and module.kernel_size == module.stride  # type: ignore[union-attr]


def _grown(taps: int, padding: Pair) -> Pair:
    """Taps to add before and after."""
    if taps % 2:
        return (0, 0)
    before, after = padding
    return (1, 0) if before < after else (0, 1)
