"""Activations with two bounds become a line between the bounds: product, sum and clamp."""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from surgery.patterns.formula import Formula
from surgery.patterns.pattern import CallPattern, Match
from surgery.risk import Risk
from surgery.rule import Example, Promise, Stage
from surgery.rule_parts.clamped_line import ClampedLine, Line
from surgery.rules.activation import Calls, ElementwiseRule

_TIMM = "timm.layers.activations"
# The slope with the smallest largest distance to the sigmoid, 0.056: where the line's distance inside the bounds,
# at sigmoid' = slope, equals that at the bound, 1 - sigmoid(1 / (2 * slope)).
SIGMOID_SLOPE = 0.177


class ToClampedLine(ElementwiseRule):
    """A bounded activation becomes a clamped line."""

    stage = Stage.PART  # after formulas that contain it
    line: ClassVar[Line]

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """The line as a module."""
        return ClampedLine(self.line.slope, self.line.offset, self.line.low, self.line.high)

    def emit(self, graph: fx.Graph, match: Match) -> fx.Node:
        """The line as calls."""
        return in_order(graph, match.root, partial(self.line.emit, graph, match.variables[0]))


def in_order(graph: fx.Graph, root: fx.Node, emit: Callable[[], fx.Node]) -> fx.Node:
    """Several new nodes, each after the one that it reads."""
    with graph.inserting_before(root.next):
        return emit()


class HardsigmoidToClamp(ToClampedLine):
    """Hardsigmoid is the line x / 6 + 1 / 2 between 0 and 1: the same output without an operator that few list."""

    name = "hardsigmoid_to_clamp"
    promise = Promise.SAME_OUTPUT
    removes = frozenset({"hardsigmoid", "hardtanh", "relu6", "add", "mul", "div"})
    emits = frozenset({"mul", "add", "clamp"})
    line = Line(1 / 6, 0.5, 0.0, 1.0)
    types = (nn.Hardsigmoid,)
    class_names = (f"{_TIMM}.HardSigmoid", f"{_TIMM}_me.HardSigmoidMe")
    patterns = (
        Formula(F.hardsigmoid, "hardsigmoid", "relu6 div", "relu6 mul", "hardtanh div", "hardtanh mul", tolerance=1e-9),
    )

    def examples(self) -> Sequence[Example]:
        """Module, function and formulas; a sigmoid stays."""
        snippets = (F.hardsigmoid, lambda x: F.relu6(x + 3) / 6, lambda x: F.hardtanh(x + 3, 0.0, 6.0) * (1 / 6))
        calls = [Example(partial(Calls, snippet), (2, 4, 5, 5), 1) for snippet in snippets]
        return [Example(nn.Hardsigmoid, (2, 4, 5, 5), 1), *calls, Example(nn.Sigmoid, (2, 4, 5, 5), 0)]


class _Hardtanh(CallPattern):
    """Calls with other bounds than ReLU6's, which has a rule of its own."""

    def matches(self, graph: fx.Graph) -> Iterator[Match]:
        """All of those."""
        return (match for match in super().matches(graph) if _bounds(match.root) != (0, 6))


def _bounds(call: fx.Node) -> tuple[Any, Any]:
    given = dict(zip(("input", "min_val", "max_val"), call.args, strict=False)) | call.kwargs
    return given.get("min_val", -1.0), given.get("max_val", 1.0)


class HardtanhToClamp(ElementwiseRule):
    """Hardtanh is a clamp by another name."""

    name = "hardtanh_to_clamp"
    promise = Promise.SAME_OUTPUT
    removes = frozenset({"hardtanh"})
    emits = frozenset({"clamp"})
    stage = Stage.PART
    types = (nn.Hardtanh,)
    patterns = (_Hardtanh("hardtanh"),)

    def examples(self) -> Sequence[Example]:
        """Module, function, other bounds; a tanh stays."""
        calls = (F.hardtanh, lambda x: F.hardtanh(x, -2.0, 0.5), lambda x: F.hardtanh(x, max_val=3.0, inplace=True))
        made = [Example(partial(Calls, call), (2, 4, 5, 5), 1) for call in calls]
        module = Example(lambda: nn.Hardtanh(-0.5, 2.0), (2, 4, 5, 5), 1)
        return [module, *made, Example(nn.Tanh, (2, 4, 5, 5), 0), Example(nn.ReLU6, (2, 4, 5, 5), 0)]

    def matches(self, module: nn.Module) -> bool:
        """Not ReLU6, which has a rule of its own."""
        return super().matches(module) and [module.min_val, module.max_val] != [0, 6]

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """With the layer's bounds."""
        return ClampedLine(1.0, 0.0, float(module.min_val), float(module.max_val))  # type: ignore[arg-type]

    def emit(self, graph: fx.Graph, match: Match) -> fx.Node:
        """With the call's bounds."""
        return graph.call_function(torch.clamp, (match.variables[0], *_bounds(match.root)))


class ClampedGLU(nn.Module):
    """The first half times the sigmoid of the second, as a clamped line."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """Half of ``input`` along ``dim``."""
        value, gate = torch.chunk(input, 2, self.dim)
        return value * torch.clamp(gate * SIGMOID_SLOPE + 0.5, 0.0, 1.0)


class GluToClamp(ElementwiseRule):
    """A gated linear unit multiplies by a sigmoid, which needs a look-up table; the nearest clamped line does not."""

    name = "glu_to_clamp"
    promise = Promise.SAME_SHAPE
    risk = Risk.NEAR
    removes = frozenset({"glu"})
    emits = frozenset({"split", "mul", "add", "clamp"})
    types = (nn.GLU,)
    patterns = (CallPattern("glu"),)

    def examples(self) -> Sequence[Example]:
        """Module and function; a tanh stays."""
        shape = (2, 4, 5, 6)
        made = [Example(partial(Calls, call), shape, 1) for call in (F.glu, lambda x: F.glu(x, dim=1))]
        return [Example(lambda: nn.GLU(1), shape, 1), *made, Example(nn.Tanh, shape, 0)]

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """Along the same axis."""
        return ClampedGLU(int(module.dim))  # type: ignore[arg-type]

    def emit(self, graph: fx.Graph, match: Match) -> fx.Node:
        """Along the same axis."""
        args = match.root.args
        dim = match.root.kwargs.get("dim", args[1] if len(args) > 1 else -1)

        def made() -> fx.Node:
            halves = graph.call_function(torch.chunk, (match.variables[0], 2, dim))
            value, gate = (graph.call_function(operator.getitem, (halves, at)) for at in (0, 1))
            line = Line(SIGMOID_SLOPE, 0.5, 0.0, 1.0).emit(graph, gate)
            return graph.call_function(operator.mul, (value, line))

        return in_order(graph, match.root, made)
