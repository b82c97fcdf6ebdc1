"""Sigmoid, tanh and softplus become lines where something in the model reads their value; at the output they stay."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from surgery.observing.call_flow import flow, only_returned
from surgery.observing.evidence import Evidence
from surgery.observing.names import canonical
from surgery.observing.trace import Traced, Untraceable
from surgery.operating.rewrite import put_in_place
from surgery.operating.rewritten_forward import install_rewritten
from surgery.record import Edit, Refusal
from surgery.risk import Risk
from surgery.rule import Example, Promise, Rule, Stage, submodule
from surgery.rule_parts.clamped_line import ClampedLine, Line
from surgery.rules.bounded_activation import SIGMOID_SLOPE, in_order

_TIMM = "timm.layers.activations"


class InnerRule(Rule):
    """Rewrites a bounded activation where something in the model reads its value, not where it is the output."""

    promise = Promise.SAME_SHAPE
    stage = Stage.PART
    functions: ClassVar[frozenset[str]]

    def line_call(self, graph: fx.Graph, node: fx.Node) -> fx.Node:
        """The nodes that take one call's place."""
        raise NotImplementedError

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Calls and modules whose value is read."""
        callers = evidence.own_calls([frozenset([name]) for name in self.functions])
        modules = [name for name, module in evidence.modules() if self.matches(module)]
        yield from (self.own_forward(name) for name, module in evidence.modules() if self.matched_before(module))
        if not callers and not modules:
            return
        observation = evidence.observation()
        kept: dict[str, list[bool]] = {}
        if observation is not None:
            of_data, ends = flow(observation).depends, only_returned(observation)
            for at, call in enumerate(observation.calls):
                if call.function in self.functions:  # of weights alone it is a constant
                    kept.setdefault(call.module, []).append(ends[at] or not of_data[at])
        for name in callers:
            if name not in modules and not all(kept.get(name, [False])):
                yield self._proposal(name, evidence, kept.get(name))
        for name in modules:
            if observation is None:
                why = "without example inputs it is not known whether this is the model's output"
                yield Refusal(self.name, name, why)
            elif name in kept and not all(kept[name]):
                if name:
                    new = self.replacement(evidence.model.get_submodule(name), {})
                    yield self.edit(name, f"{type(evidence.model.get_submodule(name)).__name__} -> {new}", {})
                else:
                    yield Refusal(self.name, name, "the model itself is this layer; put it into a Sequential")

    def _proposal(self, name: str, evidence: Evidence, kept: Sequence[bool] | None) -> Edit | Refusal:
        if kept is None:
            why = "without example inputs it is not known whether its value is the model's output"
            return Refusal(self.name, name, why)
        traced = evidence.traced(name)
        if isinstance(traced, Untraceable):
            return Refusal(self.name, name, f"calls {self.name.split('_')[0]}; cannot trace it: {traced.reason}")
        run = evidence.run(name)
        per_run = len(kept) // (run.count if run else 1)
        leave = [at for at in range(per_run) if all(kept[at::per_run])]
        counts = self._rewrite_both(leave, traced)
        if not any(counts.values()):
            return Refusal(self.name, name, "its traced forward makes other calls than were seen")
        evidence.rewritten.keep(self.name, name, traced)
        params = {"rewrites": counts, "trace": traced.method, "leave": leave}
        return self.edit(name, f"{max(counts.values())} x {self.name.replace('_to_', ' -> ')} in forward", params)

    def apply(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """Raises LookupError where the site is not what the edit says."""
        if "rewrites" not in edit.params:
            super().apply(model, edit, evidence)
            return
        rewrite = partial(self._rewrite_both, edit.params["leave"])
        install_rewritten(submodule(model, edit.site), edit, evidence, rewrite)

    def _rewrite_both(self, leave: Sequence[int], traced: Traced) -> dict[str, int]:
        return {"train": self._rewrite(traced.train, leave), "eval": self._rewrite(traced.evaluate, leave)}

    def _rewrite(self, graph: fx.Graph, leave: Sequence[int]) -> int:
        calls = {"call_function", "call_method"}
        nodes = [n for n in graph.nodes if n.op in calls and canonical(n.target) in self.functions]
        chosen = [node for at, node in enumerate(nodes) if at not in leave]
        for node in chosen:
            new = in_order(graph, node, partial(self.line_call, graph, node))
            put_in_place(node, new, tuple(node.all_input_nodes))
        return len(chosen)


class _Read(nn.Module):
    """A function whose value a layer reads, and which gives the output too."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.layer = function, nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(self.function(x)))


class SigmoidToClamp(InnerRule):
    """A sigmoid that is no gate needs a look-up table; the nearest clamped line is at most 0.056 off. One that only
    makes the model's output stays."""

    name = "sigmoid_to_clamp"
    risk = Risk.NEAR
    removes = frozenset({"sigmoid"})
    emits = frozenset({"mul", "add", "clamp"})
    functions = frozenset({"sigmoid"})
    types: ClassVar[tuple[type[nn.Module], ...]] = (nn.Sigmoid,)
    class_names = (f"{_TIMM}.Sigmoid",)
    line = Line(SIGMOID_SLOPE, 0.5, 0.0, 1.0)

    def examples(self) -> Sequence[Example]:
        """The inner one of two calls, a module before a layer; a module at the output stays."""
        inner = lambda: nn.Sequential(nn.Sigmoid(), nn.Conv2d(4, 4, 1), nn.Sigmoid())  # noqa: E731
        shape = (2, 4, 5, 5)
        calls = [Example(partial(_Read, call), shape, 1) for call in (torch.sigmoid, F.sigmoid, lambda x: x.sigmoid())]
        return [*calls, Example(inner, shape, 1), Example(nn.Sigmoid, shape, 0)]

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """The line as a module."""
        return ClampedLine(self.line.slope, self.line.offset, self.line.low, self.line.high)

    def line_call(self, graph: fx.Graph, node: fx.Node) -> fx.Node:
        """The line as calls."""
        return self.line.emit(graph, node.all_input_nodes[0])


class TanhToClamp(SigmoidToClamp):
    """A tanh needs a look-up table; tanh(x) = 2 sigmoid(2 x) - 1, so the nearest clamped line is at most 0.11 off.
    One that only makes the model's output stays."""

    name = "tanh_to_clamp"
    risk = Risk.NEAR
    removes = frozenset({"tanh"})
    emits = frozenset({"mul", "clamp"})
    functions = frozenset({"tanh"})
    types: ClassVar[tuple[type[nn.Module], ...]] = (nn.Tanh,)
    class_names = (f"{_TIMM}.Tanh",)
    line = Line(4 * SIGMOID_SLOPE, 0.0, -1.0, 1.0)

    def examples(self) -> Sequence[Example]:
        """The inner one of two calls, a module before a layer; a module at the output stays."""
        inner = lambda: nn.Sequential(nn.Tanh(), nn.Conv2d(4, 4, 1), nn.Tanh())  # noqa: E731
        calls = [Example(partial(_Read, call), (2, 4, 5, 5), 1) for call in (torch.tanh, lambda x: x.tanh())]
        return [*calls, Example(inner, (2, 4, 5, 5), 1), Example(nn.Tanh, (2, 4, 5, 5), 0)]


class SoftplusToRelu(InnerRule):
    """Softplus, log(1 + exp(x)), is the smooth form of ReLU and needs a look-up table; one at the output stays."""

    name = "softplus_to_relu"
    risk = Risk.SHAPE
    removes = frozenset({"softplus"})
    emits = frozenset({"relu"})
    functions = frozenset({"softplus"})
    types = (nn.Softplus,)

    def examples(self) -> Sequence[Example]:
        """The inner one of two calls, a module before a layer; a module at the output stays."""
        inner = lambda: nn.Sequential(nn.Softplus(), nn.Conv2d(4, 4, 1), nn.Softplus())  # noqa: E731
        shape = (2, 4, 5, 5)
        return [Example(partial(_Read, F.softplus), shape, 1), Example(inner, shape, 1), Example(nn.Softplus, shape, 0)]

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """ReLU."""
        return nn.ReLU()

    def line_call(self, graph: fx.Graph, node: fx.Node) -> fx.Node:
        """A call of relu."""
        return graph.call_function(F.relu, (node.all_input_nodes[0],))
