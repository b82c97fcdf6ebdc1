"""Large max-pools become chains of small ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from surgery.observing.names import behaves_as, is_named
from surgery.rule import Example, Promise
from surgery.rule_parts.axis_products import factors
from surgery.rule_parts.one_call import OneCallRule, Seen
from surgery.rule_parts.operator_names import MAX_POOL
from surgery.rule_parts.pool_windows import Pair, WindowPad, pair

SAME = ("timm.layers.pool2d_same.MaxPool2dSame",)


@dataclass(frozen=True)
class MaxPool:
    """Settings of a max-pool; padding None is TensorFlow's "same" padding."""

    kernel: Pair
    stride: Pair
    padding: Pair | None = (0, 0)
    dilation: Pair = (1, 1)
    ceil_mode: bool = False
    return_indices: bool = False


@dataclass(frozen=True)
class _Stage:
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    dilation: int = 1


class SplitMaxPool(OneCallRule):
    """Devices pool over at most 3x3; a maximum of maxima over small windows is the maximum over the large one."""

    name = "split_max_pool"
    promise = Promise.SAME_OUTPUT
    removes = MAX_POOL
    emits = frozenset({"max_pool2d_with_indices", "constant_pad_nd"})
    functions = ("max_pool2d", "max_pool2d_with_indices")

    def examples(self) -> Sequence[Example]:
        """Modules and calls; a 3x3 stays."""

        class Calls(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.cat([x, F.max_pool2d(x, 5, 1, padding=2), torch.max_pool2d(x, (1, 9), 1, (0, 4))], 1)

        shape = (2, 3, 13, 11)
        return [
            Example(lambda: nn.MaxPool2d(5, 1, 2), shape, 1),
            Example(lambda: nn.MaxPool2d((4, 7), (3, 2), (2, 1), ceil_mode=True), shape, 1),
            Example(Calls, shape, 2),
            Example(lambda: nn.MaxPool2d(3, 2, 1), shape, 0),
        ]

    def parse(
        self,
        input: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> MaxPool:
        """The arguments of ``F.max_pool2d``."""
        kernel = pair(kernel_size)
        edge = None if padding is None else pair(padding)
        return MaxPool(kernel, pair(stride or kernel), edge, pair(dilation), ceil_mode, return_indices)

    def arguments(self, module: nn.Module) -> Mapping[str, Any] | None:
        """Of ``nn.MaxPool2d``, and of timm's with "same" padding."""
        same = is_named(module, SAME)
        if not same and not behaves_as(module, nn.MaxPool2d):
            return None
        names = ("kernel_size", "stride", "dilation", "ceil_mode", "return_indices")
        return {name: getattr(module, name) for name in names} | {"padding": None if same else module.padding}

    def new(self, settings: MaxPool, seen: Seen | None) -> nn.Module | str | None:
        """Works at every image size."""
        if max(settings.kernel) <= 3:
            return None
        if settings.return_indices:
            return "its indices are asked for, and a chain of pools has others"
        return nn.Sequential(*max_pools(settings))


def max_pools(pool: MaxPool) -> list[nn.Module]:
    """Layers that do what the pool does, with windows of at most 3x3."""
    before: list[nn.Module] = []
    if pool.padding is None:
        before.append(WindowPad(pool.kernel, pool.stride, None, pool.dilation, -torch.inf))
        pool = replace(pool, padding=(0, 0))
    if pool.ceil_mode and (_misses_between(pool) or not all(map(_reaches_border, _axes(pool)))):
        before.append(WindowPad(pool.kernel, pool.stride, pool.padding, pool.dilation, -torch.inf))
        pool = replace(pool, padding=(0, 0), ceil_mode=False)
    if pool.padding and _misses_between(pool):
        top, left = pool.padding
        before.append(nn.ConstantPad2d((left, left, top, top), -torch.inf))
        pool = replace(pool, padding=(0, 0))
    stages = [nn.MaxPool2d(*stage, ceil_mode=pool.ceil_mode) for stage in max_stages(pool)]
    return [*before, *stages]


def _misses_between(pool: MaxPool) -> bool:
    """Whether a dilated window could see pixels that no stage sees: torch pads by half a window at most."""
    axes = zip(pool.kernel, pool.padding or (0, 0), pool.dilation, strict=True)
    return any(kernel > 3 and padding and dilation > 1 for kernel, padding, dilation in axes)


def max_stages(pool: MaxPool) -> list[tuple[Pair, Pair, Pair, Pair]]:
    """Kernel, stride, padding and dilation of each of a chain of small pools."""
    axes = _axes(pool)
    length = max(map(len, axes))
    rows, columns = ([_Stage()] * (length - len(axis)) + axis for axis in axes)
    return [
        ((h.kernel, w.kernel), (h.stride, w.stride), (h.padding, w.padding), (h.dilation, w.dilation))
        for h, w in zip(rows, columns, strict=True)
    ]


def _axes(pool: MaxPool) -> list[list[_Stage]]:
    padding = pool.padding or (0, 0)
    return [_chain(pool.kernel[i], pool.stride[i], padding[i], pool.dilation[i]) for i in (0, 1)]


def _chain(kernel: int, stride: int, padding: int, dilation: int) -> list[_Stage]:
    """Windows of 3, then one of 2 where the kernel is even: 1 + the sum of (size - 1) is the kernel.

    The padding goes to the first ones, each taking what torch allows, half a window. A stage never loses what it
    should see beyond a border: the neighbour inside has seen it. The stride goes into the last.
    """
    if kernel <= 3:
        return [_Stage(kernel, stride, padding, dilation)]
    parts = factors(kernel, (2, 3))
    if kernel == stride and parts and not padding and dilation == 1:
        return [_Stage(part, part) for part in parts]
    sizes = [3] * ((kernel - 1) // 2) + [2] * ((kernel - 1) % 2)
    last = len(sizes) - 1
    return [_Stage(size, stride if i == last else 1, int(i < padding), dilation) for i, size in enumerate(sizes)]


def _reaches_border(axis: Sequence[_Stage]) -> bool:
    """Whether the last stage's own ceil_mode is that of the whole: no window starts where an earlier one ended."""
    last = axis[-1]
    strided = all(stage.kernel == stage.stride for stage in axis)
    return len(axis) == 1 or strided or last.padding + last.stride <= (last.kernel - 1) * last.dilation + 1
