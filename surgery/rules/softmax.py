"""Softmax where devices have it: over the last axis."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from surgery.observing.evidence import Evidence
from surgery.observing.names import behaves_as
from surgery.observing.observe import Call
from surgery.observing.shapes import shape_of
from surgery.patterns.pattern import CallPattern, Match
from surgery.record import Edit, Refusal
from surgery.rule import Decline, Example, Promise, Rule
from surgery.rule_parts.example_call import ExampleCall
from surgery.rule_parts.operator_names import SOFTMAX

_MODULES = {nn.Softmax: "softmax", nn.LogSoftmax: "log_softmax", nn.Softmin: "softmin"}
_FUNCTIONS = ("softmax", "log_softmax", "softmin")


class SoftmaxOver(nn.Module):
    """``F.softmax`` (or log_softmax, softmin) over axis ``dim``, computed over the last one."""

    def __init__(self, function: str, dim: int) -> None:
        super().__init__()
        self.function, self.dim = function, dim

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as ``input``."""
        y = getattr(F, self.function)(input.transpose(self.dim, -1), dim=-1)
        return y.transpose(self.dim, -1)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """Function and axis."""
        return f"{self.function}, dim={self.dim}"


class _OffLastAxis(CallPattern):
    """Calls over an axis that is not, or may not be, the last."""

    def matches(self, graph: fx.Graph) -> Iterator[Match]:
        for match in super().matches(graph):
            shape = shape_of(match.root.args[0] if match.root.args else match.root.kwargs.get("input"))
            if not _is_last(_axis(match.root.args, match.root.kwargs), None if shape is None else len(shape)):
                yield match


class SoftmaxLastAxis(Rule):
    """Devices compute a softmax over the last axis only; moving the axis there and back costs two transposes."""

    name = "softmax_last_axis"
    promise = Promise.SAME_OUTPUT
    removes = SOFTMAX | {"_log_softmax", "log_softmax"}
    emits = frozenset({"_softmax", "transpose"})
    types = (*_MODULES, nn.Softmax2d)
    patterns = (_OffLastAxis(*_FUNCTIONS),)

    def examples(self) -> Sequence[Example]:
        """Layers, functions and methods; those over the last axis stay."""
        shape = (2, 4, 5, 5)
        moved = (
            lambda x: F.softmax(x, dim=1),
            lambda x: x.log_softmax(-3),
            lambda x: torch.softmax(x, 2, dtype=torch.float64).to(x.dtype),
            lambda x: F.softmin(input=x, dim=0),
        )
        layers = (nn.Softmax2d, lambda: nn.Softmax(1), lambda: nn.LogSoftmax(-2), lambda: nn.Softmin(2))
        stay = (lambda: nn.Softmax(-1), lambda: nn.Softmax(3), ExampleCall.of(lambda x: x.softmax(3)))
        return [
            *(Example(ExampleCall.of(f), shape, 1) for f in moved),
            *(Example(layer, shape, 1) for layer in layers),
            *(Example(layer, shape, 0) for layer in stay),
        ]

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Where the model was run, only what was seen to work on another axis: tracing costs time."""
        if evidence.example is None:
            yield from super().propose(model, evidence)
            return
        calls = {name: [c for c in evidence.calls(name) if c.function in _FUNCTIONS] for name, _ in evidence.modules()}
        off = {name for name, found in calls.items() if not all(map(_was_last, found))}
        rewrites = self._propose_rewrites(model, evidence) if off else ()
        yield from (proposal for proposal in rewrites if proposal.site in off)
        for proposal in self._propose_modules(model, evidence):
            if proposal.site in off or evidence.run(proposal.site) is None:
                yield proposal

    def matches(self, module: nn.Module) -> bool:
        """Layers over an axis that may not be the last."""
        return super().matches(module) and not _is_last(_axis_of(module), None)

    def params(self, module: nn.Module, name: str, evidence: Evidence) -> Mapping[str, Any] | Refusal:
        """None; an axis counted from the front is the last for some inputs, which only a run shows."""
        axis = _axis_of(module)
        if axis is None:
            return Refusal(self.name, name, "it chooses its axis by the number of dimensions")
        if axis >= 0 and evidence.run(name) is None:
            return Refusal(self.name, name, f"it never ran on example inputs: axis {axis} may be the last")
        return {}

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """The same over the last axis, between transposes."""
        function = next((name for kind, name in _MODULES.items() if behaves_as(module, kind)), "softmax")
        axis = _axis_of(module)
        return SoftmaxOver(function, -1 if axis is None else axis)

    def emit(self, graph: fx.Graph, match: Match) -> fx.Node | Decline:
        """The same call between transposes."""
        root, axis = match.root, _axis(match.root.args, match.root.kwargs)
        source = root.args[0] if root.args else root.kwargs["input"]
        if not isinstance(axis, int) or not isinstance(source, fx.Node):
            return Decline("its axis is not known before it runs")
        if axis >= 0 and shape_of(source) is None:
            return Decline(f"the number of dimensions is not known: axis {axis} may be the last")
        with graph.inserting_before(root):
            there = graph.call_method("transpose", (source, axis, -1))
            call = graph.node_copy(root)
            call.args, call.kwargs = _over_last(root, there)
            return graph.call_method("transpose", (call, axis, -1))


def _over_last(root: fx.Node, there: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call, as they were written, with another source and axis."""
    args = (there, *root.args[1:]) if root.args else ()
    kwargs = dict(root.kwargs) if root.args else {**root.kwargs, "input": there}
    if len(args) > 1:
        return (there, -1, *args[2:]), kwargs
    return args, {**kwargs, "dim": -1}


def _axis(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    return args[1] if len(args) > 1 else kwargs.get("dim")


def _axis_of(module: nn.Module) -> int | None:
    return -3 if isinstance(module, nn.Softmax2d) else module.dim  # type: ignore[return-value]


def _is_last(axis: Any, dimensions: int | None) -> bool:
    """Whether it certainly is."""
    return axis == -1 or (dimensions is not None and axis == dimensions - 1)


def _was_last(call: Call) -> bool:
    source = call.args[0] if call.args else call.kwargs["input"]
    return _is_last(_axis(call.args, call.kwargs), source.ndim)
