"""Activations that are x without what another one makes of it: x - tanh(x), and log-sigmoid, about x - relu(x)."""

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from surgery.risk import Risk
from surgery.rule import Example
from surgery.rule_parts.clamped_line import ClampedLine, Line
from surgery.rules.bounded_activation import SIGMOID_SLOPE
from surgery.rules.inner_activation import InnerRule


class Rest(nn.Module):
    """What is left of x without what a layer makes of it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, input: Tensor) -> Tensor:
        """Any shape, which it keeps."""
        return input - self.layer(input)  # type: ignore[no-any-return]


class RestRule(InnerRule):
    """Such an activation becomes x without a simpler one."""

    function: ClassVar[Callable[[Tensor], Tensor]]

    def layer(self) -> nn.Module:
        """What is taken away, as a module."""
        raise NotImplementedError

    def layer_call(self, graph: fx.Graph, x: fx.Node) -> fx.Node:
        """What is taken away, as calls."""
        raise NotImplementedError

    def examples(self) -> Sequence[Example]:
        """Calls and a module before a layer; a module at the output stays."""
        shape, (kind,) = (2, 4, 5, 5), self.types
        inner = lambda: nn.Sequential(kind(), nn.Conv2d(4, 4, 1), kind())  # noqa: E731
        call = Example(partial(_Before, type(self).function), shape, 1)
        return [call, Example(inner, shape, 1), Example(kind, shape, 0)]

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """As a module."""
        return Rest(self.layer())

    def line_call(self, graph: fx.Graph, node: fx.Node) -> fx.Node:
        """As calls."""
        x = node.all_input_nodes[0]
        return graph.call_function(operator.sub, (x, self.layer_call(graph, x)))


class TanhshrinkToClamp(RestRule):
    """Tanhshrink, x - tanh(x), needs a look-up table for tanh; the nearest clamped line is at most 0.11 off. One that
    only makes the model's output stays."""

    name = "tanhshrink_to_clamp"
    risk = Risk.NEAR
    removes = frozenset({"tanh", "sub"})
    emits = frozenset({"mul", "clamp", "sub"})
    functions = frozenset({"tanhshrink"})
    function = F.tanhshrink
    types = (nn.Tanhshrink,)
    line = Line(4 * SIGMOID_SLOPE, 0.0, -1.0, 1.0)

    def layer(self) -> nn.Module:
        """The line."""
        return ClampedLine(self.line.slope, self.line.offset, self.line.low, self.line.high)

    def layer_call(self, graph: fx.Graph, x: fx.Node) -> fx.Node:
        """The line."""
        return self.line.emit(graph, x)


class LogSigmoidToMinimum(RestRule):
    """Log-sigmoid, -log(1 + exp(-x)), is the smooth form of min(x, 0), which is x - relu(x), and needs a look-up table.
    One that only makes the model's output stays."""

    name = "log_sigmoid_to_minimum"
    risk = Risk.SHAPE
    removes = frozenset({"log_sigmoid_forward", "log_sigmoid"})
    emits = frozenset({"relu", "sub"})
    functions = frozenset({"log_sigmoid", "logsigmoid"})
    function = F.logsigmoid
    types = (nn.LogSigmoid,)

    def layer(self) -> nn.Module:
        """ReLU."""
        return nn.ReLU()

    def layer_call(self, graph: fx.Graph, x: fx.Node) -> fx.Node:
        """A call of relu."""
        return graph.call_function(F.relu, (x,))


class _Before(nn.Module):
    """A function whose value a layer reads."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.layer = function, nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.layer(self.function(x)))
