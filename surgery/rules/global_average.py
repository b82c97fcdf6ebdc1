"""Averages over the whole plane, in the words that exporters keep."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from surgery.observing.names import behaves_as
from surgery.rule import Example, Promise, Rule


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
