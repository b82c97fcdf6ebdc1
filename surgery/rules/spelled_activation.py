"""Activations in other words: for devices that know the parts, or another form, but not the whole."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from operator import mul
from typing import Any

from torch import Tensor, fx, nn
from torch.nn import functional as F

from surgery.observing.names import behaves_as
from surgery.patterns.pattern import CallPattern, Match
from surgery.risk import Risk
from surgery.rule import Example, Promise
from surgery.rules.activation import Calls, ElementwiseRule


class GatedByHardsigmoid(nn.Module):
    """x hardsigmoid(x), which is Hardswish (Howard et al. 2019, section 5.2)."""

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as ``input``."""
        return input * F.hardsigmoid(input)


class SpellOutHardswish(ElementwiseRule):
    """Hardswish is x hardsigmoid(x): the same output for devices that list hardsigmoid and products alone."""

    name = "spell_out_hardswish"
    promise = Promise.SAME_OUTPUT
    default = False
    removes = frozenset({"hardswish"})
    emits = frozenset({"mul", "hardsigmoid"})
    types = (nn.Hardswish,)
    patterns = (CallPattern("hardswish"),)

    def examples(self) -> Sequence[Example]:
        """Module and call; what is spelled out already stays."""
        shape = (2, 4, 5, 5)
        return [
            Example(nn.Hardswish, shape, 1),
            Example(partial(Calls, lambda x: F.hardswish(x) + 1), shape, 1),
            Example(GatedByHardsigmoid, shape, 0),
        ]

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """Without parameters."""
        return GatedByHardsigmoid()

    def emit(self, graph: fx.Graph, match: Match) -> fx.Node:
        """The gate, then the product."""
        x = match.variables[0]
        return graph.call_function(mul, (x, graph.call_function(F.hardsigmoid, (x,))))


class _TanhForm(CallPattern):
    """Calls of GELU in the form with tanh."""

    def matches(self, graph: fx.Graph) -> Iterator[Match]:
        """All of those."""
        return (match for match in super().matches(graph) if match.root.kwargs.get("approximate") == "tanh")


class GeluTanhToErf(ElementwiseRule):
    """Devices that know GELU know its erf form; the form with tanh is at most 0.0005 off it."""

    name = "gelu_tanh_to_erf"
    promise = Promise.SAME_SHAPE
    risk = Risk.NEAR
    default = False
    removes = frozenset({"gelu"})
    emits = frozenset({"gelu"})
    types = (nn.GELU,)
    class_names = ("timm.layers.activations.GELUTanh",)
    patterns = (_TanhForm("gelu"),)

    def matches(self, module: nn.Module) -> bool:
        """Not the erf form."""
        return super().matches(module) and not (behaves_as(module, nn.GELU) and module.approximate == "none")

    def examples(self) -> Sequence[Example]:
        """Module and call; the erf form stays, whichever way it is written."""
        shape = (2, 4, 5, 5)
        return [
            Example(partial(nn.GELU, approximate="tanh"), shape, 1),
            Example(partial(Calls, lambda x: F.gelu(x, approximate="tanh") + 1), shape, 1),
            Example(nn.GELU, shape, 0),
            Example(partial(Calls, lambda x: F.gelu(x) + 1), shape, 0),
        ]

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """The erf form."""
        return nn.GELU()

    def emit(self, graph: fx.Graph, match: Match) -> fx.Node:
        """A call of the erf form."""
        return graph.call_function(F.gelu, (match.variables[0],))
