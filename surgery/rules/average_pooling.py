"""Large average pools become chains of small ones, convolutions with constant weights, or matrix products."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from surgery.observing.names import behaves_as, is_named
from surgery.rule import Example, Promise
from surgery.rule_parts.axis_products import product, windows
from surgery.rule_parts.one_call import OneCallRule, Seen
from surgery.rule_parts.pool_windows import Pair, WindowPad, pair

SAME = ("timm.layers.pool2d_same.AvgPool2dSame",)
LARGEST_KERNEL = 5  # of a convolution that devices take


@dataclass(frozen=True)
class AveragePool:
    """Settings of an average pool; padding None is TensorFlow's "same" padding."""

    kernel: Pair
    stride: Pair
    padding: Pair | None = (0, 0)
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor: int | None = None


class FixedConv2d(nn.Module):
    """A convolution of each channel with the same constant filter: a buffer, not trained and not in the state_dict.

    The weight (C, 1, kH, kW) has the filter once for each of the channels that are expected; others are served too.
    """

    weight: Tensor

    def __init__(self, weight: Tensor, stride: Pair, padding: Pair) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.register_buffer("weight", weight.clone(), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) or (C, H, W), in the precision of ``input``."""
        return fixed_convolution(input, self.weight, self.stride, self.padding)

    def extra_repr(self) -> str:
        """Its settings."""
        return f"{tuple(self.weight.shape)}, stride={self.stride}, padding={self.padding}"


@fx.wrap
def fixed_convolution(x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """See ``FixedConv2d``."""
    channels = x.shape[-3]
    if len(weight) != channels:
        weight = weight[:1].expand(channels, -1, -1, -1)
    return F.conv2d(x, weight.to(x.dtype), None, stride, padding, groups=channels)


class PoolProducts(nn.Module):
    """Any average pool as two products with matrices that hold the weights, at any image size."""

    def __init__(self, pool: AveragePool) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = pool.kernel, pool.stride, pool.padding or (0, 0)
        self.ceil_mode, self.divisor = pool.ceil_mode, pool.divisor
        self.counted = "padded" if pool.count_include_pad else "inside"

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) or (C, H, W)."""
        settings = (self.kernel, self.stride, self.padding, self.ceil_mode)
        if self.divisor is None:
            return pool_product(input, *settings, self.counted)
        return pool_product(input, *settings, None) / self.divisor

    def extra_repr(self) -> str:
        """Its settings."""
        return f"kernel={self.kernel}, stride={self.stride}, padding={self.padding}, ceil_mode={self.ceil_mode}"


@fx.wrap
def pool_product(x: Tensor, kernel: Pair, stride: Pair, padding: Pair, ceil_mode: bool, divided: str | None) -> Tensor:
    """See ``PoolProducts`` and ``windows``; an axis with windows of one pixel, side by side, is left."""
    rows, columns = (
        None
        if kernel[axis] == stride[axis] == 1
        else windows(x, x.shape[axis - 2], kernel[axis], stride[axis], padding[axis], ceil_mode, divided)
        for axis in (0, 1)
    )
    return product(x, rows, columns)


class SplitAvgPool(OneCallRule):
    """Devices average over at most 3x3, or the whole image; larger windows are exact in other ways."""

    name = "split_avg_pool"
    promise = Promise.SAME_OUTPUT
    removes = frozenset({"avg_pool2d"})
    emits = frozenset({"avg_pool2d", "convolution", "bmm", "mm", "mul"})
    functions = ("avg_pool2d",)

    def examples(self) -> Sequence[Example]:
        """A chain, a convolution, products; a 3x3 and a global pool stay."""

        class Calls(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return F.avg_pool2d(x, 4) + torch.nn.functional.avg_pool2d(x, 5, 4, 2)

        shape = (2, 3, 12, 12)
        return [
            Example(lambda: nn.AvgPool2d(4), shape, 1),
            Example(lambda: nn.AvgPool2d(5, 2, 1), shape, 1),
            Example(lambda: nn.AvgPool2d((7, 4), (2, 3), (3, 2), True, False), shape, 1),
            Example(Calls, shape, 2),
            Example(lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), shape, 0),
            Example(lambda: nn.AvgPool2d(12), shape, 0),
        ]

    def parse(
        self,
        input: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> AveragePool:
        """The arguments of ``F.avg_pool2d``."""
        kernel = pair(kernel_size)
        edge = None if padding is None else pair(padding)
        return AveragePool(kernel, pair(stride or kernel), edge, ceil_mode, count_include_pad, divisor_override)

    def arguments(self, module: nn.Module) -> Mapping[str, Any] | None:
        """Of ``nn.AvgPool2d``, and of timm's with "same" padding."""
        same = is_named(module, SAME)
        if not same and not behaves_as(module, nn.AvgPool2d):
            return None
        names = ("kernel_size", "stride", "ceil_mode", "count_include_pad")
        own = {name: getattr(module, name) for name in names} | {"padding": None if same else module.padding}
        return own | {"divisor_override": None if same else module.divisor_override}

    def new(self, settings: AveragePool, seen: Seen | None) -> nn.Module | str | None:
        """Works at every image size."""
        if max(settings.kernel) <= 3:
            return None
        if seen is None:
            return "without example inputs it is not known whether it pools the whole image"
        if seen.input[-2:] == settings.kernel and seen.output[-2:] == (1, 1):
            return None
        before: list[nn.Module] = []
        if settings.padding is None:
            before = [WindowPad(settings.kernel, settings.stride, None, (1, 1), 0.0)]
        layers = before + average_pools(settings, seen)
        return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def average_pools(pool: AveragePool, seen: Seen) -> list[nn.Module]:
    """Layers that do what the pool does; a padding of None is left to what stands before them."""
    padding = pool.padding or (0, 0)
    uniform = not pool.ceil_mode and (pool.count_include_pad or padding == (0, 0))
    chain = average_chain(pool.kernel, pool.stride)
    if uniform and chain and pool.divisor is None:
        pads = (padding[1], padding[1], padding[0], padding[0])
        before: list[nn.Module] = [nn.ZeroPad2d(pads)] if any(pads) else []
        return before + [nn.AvgPool2d(kernel, stride) for kernel, stride in chain]
    if uniform and max(pool.kernel) <= LARGEST_KERNEL:
        divisor = pool.divisor or pool.kernel[0] * pool.kernel[1]
        weight = seen.like().new_ones(seen.input[-3], 1, *pool.kernel) / divisor
        return [FixedConv2d(weight, pool.stride, padding)]
    return [PoolProducts(pool)]


def average_chain(kernel: Pair, stride: Pair) -> list[tuple[Pair, Pair]] | None:
    """Kernels and strides of at most 3x3 pools whose averages of averages are those of the large one, if there are."""
    rows, columns = _chain(kernel[0], stride[0]), _chain(kernel[1], stride[1])
    if rows is None or columns is None:
        return None
    length = max(len(rows), len(columns))
    rows, columns = ([(1, 1)] * (length - len(axis)) + axis for axis in (rows, columns))
    return [((h[0], w[0]), (h[1], w[1])) for h, w in zip(rows, columns, strict=True)]


def _chain(kernel: int, stride: int) -> list[tuple[int, int]] | None:
    """All but the last do not overlap, so that each pixel counts once."""
    if kernel <= 3:
        return [(kernel, stride)]
    for part in (2, 3):
        if kernel % part == 0 and stride % part == 0:
            rest = _chain(kernel // part, stride // part)
            if rest is not None:
                return [(part, part), *rest]
    return None
