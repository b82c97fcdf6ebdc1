"""A line between two bounds, as calls and as a module."""

import operator
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn


@dataclass(frozen=True)
class Line:
    """clamp(slope * x + offset, low, high)."""

    slope: float
    offset: float
    low: float
    high: float

    def emit(self, graph: fx.Graph, x: fx.Node) -> fx.Node:
        """The calls, without those that change nothing."""
        if self.slope != 1:
            x = graph.call_function(operator.mul, (x, self.slope))
        if self.offset:
            x = graph.call_function(operator.add, (x, self.offset))
        return graph.call_function(torch.clamp, (x, self.low, self.high))


class ClampedLine(nn.Module):
    """clamp(slope * x + offset, low, high), made of operators that every device has."""

    def __init__(self, slope: float, offset: float, low: float, high: float) -> None:
        super().__init__()
        self.slope, self.offset, self.low, self.high = slope, offset, low, high

    def forward(self, input: Tensor) -> Tensor:
        """Any shape, which it keeps."""
        line = input if self.slope == 1 else input * self.slope
        return torch.clamp(line + self.offset if self.offset else line, self.low, self.high)

    def extra_repr(self) -> str:
        """The four numbers."""
        return f"slope={self.slope:.4g}, offset={self.offset:.4g}, low={self.low:.4g}, high={self.high:.4g}"
