"""Averages over the whole plane: in the words that exporters keep, and in steps where it is too large for a device."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, fx, nn
from torch.nn import functional as F

from surgery.observing.names import behaves_as
from surgery.rule import Example, Promise, Rule
from surgery.rule_parts.one_call import OneCallRule, Seen

LARGEST_PLANE = 1024  # pixels that devices average at once, where they have a bound


class PlaneMean(nn.Module):
    """The mean over height and width of (N, C, H, W), as (N, C, 1, 1)."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) or (C, H, W); the last two axes become 1."""
        return input.mean((-2, -1), keepdim=True)


class GlobalAvgPoolToMean(Rule):
    """Of channels that are last in memory, exporters write an adaptive pool to 1x1 as a mean and a gather over its
    memory; the mean alone is the same."""

    name = "global_avg_pool_to_mean"
    promise = Promise.SAME_OUTPUT
    default = False
    removes = frozenset({"adaptive_avg_pool2d", "as_strided"})
    emits = frozenset({"mean"})
    types = (nn.AdaptiveAvgPool2d,)

    def examples(self) -> Sequence[Example]:
        """To one pixel; pools to more pixels stay."""
        shape = (2, 4, 6, 5)
        return [
            Example(lambda: nn.AdaptiveAvgPool2d(1), shape, 1),
            Example(lambda: nn.AdaptiveAvgPool2d((1, 1)), shape, 1),
            Example(lambda: nn.AdaptiveAvgPool2d((1, None)), shape, 0),
            Example(lambda: nn.AdaptiveAvgPool2d(2), shape, 0),
        ]

    def matches(self, module: nn.Module) -> bool:
        """Pools to one pixel."""
        return behaves_as(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1), [1, 1])

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """Without parameters."""
        return PlaneMean()


class StagedPlaneMean(nn.Module):
    """The mean over a large plane, as means of means of 2x2 or 3x3 blocks that divide it."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) or (C, H, W), of any size; the last two axes become 1."""
        return staged_plane_mean(input)


@fx.wrap
def staged_plane_mean(x: Tensor) -> Tensor:
    """See ``StagedPlaneMean``: blocks divide the plane, so that each pixel counts once."""
    for kernel in _stages(int(x.shape[-2]), int(x.shape[-1])):
        x = F.avg_pool2d(x, kernel)
    return F.adaptive_avg_pool2d(x, 1)


def _stages(height: int, width: int) -> list[tuple[int, int]]:
    """Blocks to average until the plane is small enough, or nothing divides it."""
    stages = []
    while height * width > LARGEST_PLANE:
        rows, columns = (next((part for part in (2, 3) if size % part == 0), 1) for size in (height, width))
        if rows == columns == 1:
            break
        stages.append((rows, columns))
        height, width = height // rows, width // columns
    return stages


class SplitGlobalAvgPool(OneCallRule):
    """Some devices average over at most 1024 pixels at once; a mean of means over equal blocks is the same mean."""

    name = "split_global_avg_pool"
    promise = Promise.SAME_OUTPUT
    default = False
    removes = frozenset({"adaptive_avg_pool2d", "mean"})
    emits = frozenset({"avg_pool2d", "mean"})
    functions = ("adaptive_avg_pool2d",)

    def examples(self) -> Sequence[Example]:
        """Large planes that blocks divide; small ones, odd ones and pools to more pixels stay."""

        class Calls(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return F.adaptive_avg_pool2d(x, 1) + F.adaptive_avg_pool2d(x, (1, 1))

        shape = (2, 3, 40, 36)
        return [
            Example(lambda: nn.AdaptiveAvgPool2d(1), shape, 1),
            Example(lambda: nn.AdaptiveAvgPool2d((1, 1)), (2, 3, 39, 120), 1),
            Example(Calls, shape, 2),
            Example(lambda: nn.AdaptiveAvgPool2d(1), (2, 3, 32, 32), 0),
            Example(lambda: nn.AdaptiveAvgPool2d(1), (2, 3, 37, 41), 0),
            Example(lambda: nn.AdaptiveAvgPool2d(2), shape, 0),
        ]

    def parse(self, input: Any, output_size: Any) -> bool:
        """Whether the arguments of ``F.adaptive_avg_pool2d`` ask for one pixel."""
        return output_size in (1, (1, 1), [1, 1])

    def arguments(self, module: nn.Module) -> Mapping[str, Any] | None:
        """Of ``nn.AdaptiveAvgPool2d``."""
        return {"output_size": module.output_size} if behaves_as(module, nn.AdaptiveAvgPool2d) else None

    def new(self, settings: bool, seen: Seen | None) -> nn.Module | str | None:
        """Works at every image size; at some there is nothing to split."""
        if not settings:
            return None
        if seen is None:
            return "without example inputs it is not known how large the plane is"
        height, width = seen.input[-2:]
        if height * width <= LARGEST_PLANE:
            return None
        left_over = height * width
        for rows, columns in _stages(height, width):
            left_over //= rows * columns
        return StagedPlaneMean() if left_over <= LARGEST_PLANE else None
