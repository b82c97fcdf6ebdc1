"""Average pools over a sequence become pools over an image of one row, which other rules know."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from surgery.rule import Example, Promise, Rule, Stage


class RowPool(nn.Module):
    """An average pool over the last axis of (N, C, L), as one over an image of height 1."""

    def __init__(self, layer: nn.AvgPool1d) -> None:
        super().__init__()
        kernel, stride, padding = map(_single, (layer.kernel_size, layer.stride, layer.padding))
        settings = layer.ceil_mode, layer.count_include_pad
        self.pool = nn.AvgPool2d((1, kernel), (1, stride), (0, padding), *settings)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, L) or (C, L) to the same with a shorter L."""
        return self.pool(input.unsqueeze(-2)).squeeze(-2)  # type: ignore[no-any-return]


def _single(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]


class AvgPool1dToRow(Rule):
    """Devices pool over images; a sequence is an image of height 1."""

    name = "avg_pool1d_to_row"
    promise = Promise.SAME_OUTPUT
    removes = frozenset({"avg_pool1d"})
    stage = Stage.BLOCK
    types = (nn.AvgPool1d,)

    def examples(self) -> Sequence[Example]:
        """Over a flattened image; a 2-D pool stays."""

        class Flat(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.pool = nn.AvgPool1d(4, 4)

            def forward(self, x: Tensor) -> Tensor:
                return self.pool(x.flatten(2))  # type: ignore[no-any-return]

        shape = (2, 3, 4, 8)
        return [Example(Flat, shape, 1), Example(lambda: nn.AvgPool2d(2), shape, 0)]

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """A RowPool of the same settings."""
        if not isinstance(module, nn.AvgPool1d):
            raise LookupError(f"a {type(module).__name__} is no average pool over a sequence")
        return RowPool(module)
