"""A model whose forward is a line of somebody's code, and an input for it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


class Calls(nn.Module):
    """The code, which may be anything, before a product that keeps it from being the output."""

    def __init__(self, code: Callable[[Any], Any]) -> None:
        super().__init__()
        self.code = code

    def forward(self, x: Tensor) -> Tensor:
        return self.code(x) * 1.0
