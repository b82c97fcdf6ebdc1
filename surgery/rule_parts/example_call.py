"""A line of somebody's forward as a module: what rules that rewrite calls show themselves on."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class ExampleCall(nn.Module):
    """One function of a tensor."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """What the function gives."""
        return self.function(x)  # type: ignore[no-any-return]

    @classmethod
    def of(cls, function: Callable[[Any], Any]) -> Callable[[], nn.Module]:
        """What builds one."""
        return lambda: cls(function)
