"""Adaptive pools become plain ones where their bins are regular, and products or slices where they are not."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from surgery.observing.names import behaves_as
from surgery.rule import Example, Promise
from surgery.rule_parts.axis_products import bin_averages, product
from surgery.rule_parts.one_call import OneCallRule, Seen
from surgery.rules.average_pooling import average_chain
from surgery.rules.pooling import MaxPool, max_stages

Size = tuple[int | None, int | None]


class PlainAdaptivePool(nn.Module):
    """What an adaptive pool does at the size of its input, in plain operations; output size None leaves an axis."""

    def __init__(self, kind: Literal["avg", "max"], output_size: Size) -> None:
        super().__init__()
        self.kind, self.output_size = kind, output_size

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) or (C, H, W); last two axes as ``output_size``."""
        return adaptive_pool(input, self.kind, self.output_size)

    def extra_repr(self) -> str:
        """Its settings."""
        return f"{self.kind!r}, output_size={self.output_size}"


@fx.wrap
def adaptive_pool(x: Tensor, kind: Literal["avg", "max"], output_size: Size) -> Tensor:
    """See ``PlainAdaptivePool``."""
    before = (x.shape[-2], x.shape[-1])
    size = (output_size[0] or before[0], output_size[1] or before[1])
    if size == before:
        return x.clone()
    regular = [_window(n, m) for n, m in zip(before, size, strict=True)]
    plain = [window or (1, 1) for window in regular]
    kernel, stride = (plain[0][0], plain[1][0]), (plain[0][1], plain[1][1])
    if kind == "max":
        for stage in max_stages(MaxPool(kernel, stride)) if kernel != (1, 1) else ():
            x = F.max_pool2d(x, *stage)
        for axis in (-2, -1):
            if regular[axis] is None:
                x = _bin_maxima(x, axis, size[axis])
        return x
    chain = average_chain(kernel, stride)
    if chain is None:  # too large to be plain, and without divisors
        regular, chain = [None, None], []
    for window, step in chain:
        if window != (1, 1):
            x = F.avg_pool2d(x, window, step)
    rows, columns = (
        None if regular[i] is not None or before[i] == size[i] else bin_averages(x, before[i], size[i]) for i in (0, 1)
    )
    return product(x, rows, columns)


def _bins(n: int, m: int) -> list[tuple[int, int]]:
    return [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]


def _window(n: int, m: int) -> tuple[int, int] | None:
    """Kernel and stride where all m bins of n pixels are as wide and as far apart; else None."""
    bins = _bins(n, m)
    widths = {last - first for first, last in bins}
    steps = {b[0] - a[0] for a, b in pairwise(bins)} or {1}
    return (widths.pop(), steps.pop()) if len(widths) == len(steps) == 1 and 0 not in steps else None


def _bin_maxima(x: Tensor, axis: int, m: int) -> Tensor:
    parts = [x.narrow(axis, first, last - first) for first, last in _bins(x.shape[axis], m)]
    return torch.cat([part.amax(axis, keepdim=True) if part.shape[axis] > 1 else part for part in parts], axis)


class _AdaptiveRule(OneCallRule):
    """A pool to a fixed size that is not one pixel."""

    promise = Promise.SAME_OUTPUT

    def parse(self, input: Any, output_size: Any, return_indices: bool = False) -> tuple[Size, bool]:
        """The arguments of ``F.adaptive_max_pool2d``."""
        h, w = (output_size, output_size) if isinstance(output_size, int) or output_size is None else output_size
        return (h, w), return_indices


class AdaptiveAvgPoolToPlain(_AdaptiveRule):
    """An adaptive average is a plain pool, or two products with constant matrices, at the size of its input."""

    name = "adaptive_avg_pool_to_plain"
    removes = frozenset({"_adaptive_avg_pool2d", "adaptive_avg_pool2d"})
    emits = frozenset({"avg_pool2d", "bmm", "mm", "mul"})
    functions = ("adaptive_avg_pool2d",)

    def examples(self) -> Sequence[Example]:
        """Regular and irregular bins, more pixels than before; a global pool stays."""

        class Calls(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return F.adaptive_avg_pool2d(x, (4, None)) + F.adaptive_avg_pool2d(x, (4, 1))

        return [
            *(Example(partial(nn.AdaptiveAvgPool2d, size), (2, 3, 12, 7), 1) for size in (7, (3, 7), (24, 2))),
            Example(Calls, (2, 3, 12, 7), 2),
            Example(lambda: nn.AdaptiveAvgPool2d(1), (2, 3, 12, 7), 0),
        ]

    def arguments(self, module: nn.Module) -> Mapping[str, Any] | None:
        """Of ``nn.AdaptiveAvgPool2d``."""
        return {"output_size": module.output_size} if behaves_as(module, nn.AdaptiveAvgPool2d) else None

    def new(self, settings: tuple[Size, bool], seen: Seen | None) -> nn.Module | str | None:
        """Works at every image size."""
        return None if settings[0] == (1, 1) else PlainAdaptivePool("avg", settings[0])


class AdaptiveMaxPoolToPlain(_AdaptiveRule):
    """An adaptive maximum is a plain pool, or slices and their maxima, at the size of its input."""

    name = "adaptive_max_pool_to_plain"
    removes = frozenset({"adaptive_max_pool2d"})
    emits = frozenset({"max_pool2d_with_indices", "amax", "cat", "slice"})
    functions = ("adaptive_max_pool2d", "adaptive_max_pool2d_with_indices")

    def examples(self) -> Sequence[Example]:
        """Regular and irregular bins, more pixels than before; a global pool stays."""

        class Calls(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return F.adaptive_max_pool2d(x, (4, 3)) + F.adaptive_max_pool2d(x, (4, 1))

        return [
            *(Example(partial(nn.AdaptiveMaxPool2d, size), (2, 3, 12, 7), 1) for size in (7, (3, 7), (24, 2))),
            Example(Calls, (2, 3, 12, 7), 2),
            Example(lambda: nn.AdaptiveMaxPool2d(1), (2, 3, 12, 7), 0),
        ]

    def arguments(self, module: nn.Module) -> Mapping[str, Any] | None:
        """Of ``nn.AdaptiveMaxPool2d``."""
        if not behaves_as(module, nn.AdaptiveMaxPool2d):
            return None
        return {"output_size": module.output_size, "return_indices": module.return_indices}

    def new(self, settings: tuple[Size, bool], seen: Seen | None) -> nn.Module | str | None:
        """Works at every image size."""
        if settings[0] == (1, 1):
            return None
        if settings[1]:
            return "its indices are asked for, and plain pools have others"
        return PlainAdaptivePool("max", settings[0])
