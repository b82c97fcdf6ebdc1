"""Activations that cost a look-up table or several operators become ReLU."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from surgery.observing.call_flow import flow
from surgery.observing.evidence import Evidence
from surgery.observing.names import behaves_as, of_node
from surgery.observing.trace import Traced
from surgery.patterns.formula import Formula
from surgery.patterns.pattern import CallPattern, Match
from surgery.record import Edit, Refusal
from surgery.risk import Risk
from surgery.rule import Example, Promise, Rule, Stage
from surgery.rule_parts.clamped_line import ClampedLine
from surgery.rule_parts.factor import is_factor, is_factor_when_run

_TIMM = "timm.layers.activations"


class Calls(nn.Module):
    """A line of somebody's forward, for examples of rules that rewrite calls."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """What the function gives."""
        return self.function(x)


class ElementwiseRule(Rule):
    """Replaces an activation, written as module, function, method or formula."""

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """A module that is replaced is not rewritten inside as well."""
        proposals = list(super().propose(model, evidence))
        replaced = {p.site for p in proposals if isinstance(p, Edit) and "rewrites" not in p.params}
        for proposal in proposals:
            inside = isinstance(proposal, Refusal) or "rewrites" in proposal.params
            if inside and proposal.site in replaced:
                continue
            if isinstance(proposal, Refusal) and proposal.site and not self._acts_on_data(proposal.site, evidence):
                continue
            yield proposal

    def _acts_on_data(self, site: str, evidence: Evidence) -> bool:
        """Whether a forward makes one of the rule's calls on data; of weights alone the result is a constant."""
        observation = evidence.observation()
        if observation is None:
            return True
        names = {name for wanted in self.operations() for name in wanted} - {"mul", "div"}
        of_data = flow(observation).depends
        return any(c.module == site and c.function in names and of_data[at] for at, c in enumerate(observation.calls))

    def label(self) -> str:
        """The function's name."""
        return self.name.replace("_to_", " -> ")


class ToRelu(ElementwiseRule):
    """An activation becomes ReLU."""

    promise = Promise.SAME_SHAPE
    risk = Risk.SHAPE
    emits = frozenset({"relu"})

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """Not inplace: what follows may need the value for backward."""
        return nn.ReLU()

    def emit(self, graph: fx.Graph, match: Match) -> fx.Node:
        """A call of relu."""
        return graph.call_function(F.relu, (match.variables[0],))

    def examples(self) -> Sequence[Example]:
        """Each type, each way to write it, and a ReLU that stays."""
        modules = [Example(kind, (2, 4, 5, 5), 1) for kind in self.types]
        calls = [Example(partial(Calls, _then_add(snippet)), (2, 4, 5, 5), 1) for snippet in self.snippets()]
        return [*modules, *calls, Example(nn.ReLU, (2, 4, 5, 5), 0)]

    def snippets(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """Functions of one tensor that the rule rewrites."""
        return ()


def _then_add(snippet: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: snippet(x) + 1


class _Relu6(Formula):
    """All but clamps that are a factor of a product."""

    def matches(self, graph: fx.Graph) -> Iterator[Match]:
        """As of any formula."""
        for match in super().matches(graph):
            if of_node(match.root) != "clamp" or not is_factor(match.root):
                yield match


class Relu6ToRelu(ToRelu):
    """ReLU6's upper bound costs a clip on devices whose convolutions fuse only ReLU. Where it bounds a factor of a
    product, as in x * relu6(x + 3) / 6, it becomes a clamp: without the bound the product would be quadratic."""

    name = "relu6_to_relu"
    risk = Risk.NEAR
    removes = frozenset({"hardtanh", "relu6", "clamp"})
    stage = Stage.PART  # after Hardswish, x * relu6(x + 3) / 6
    types = (nn.ReLU6,)
    patterns = (_Relu6(F.relu6, "relu6", "hardtanh", "clamp", "clip"),)

    def matches(self, module: nn.Module) -> bool:
        """A Hardtanh with these bounds too."""
        bounded = isinstance(module, nn.Hardtanh) and behaves_as(module, nn.Hardtanh)
        return super().matches(module) or (bounded and [module.min_val, module.max_val] == [0, 6])

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Not the clamps that it makes, nor calls whose value is a factor outside their own forward."""
        for proposal in super().propose(model, evidence):
            if isinstance(proposal, Edit) and isinstance(model.get_submodule(proposal.site), ClampedLine):
                continue
            in_calls = isinstance(proposal, Edit) and "rewrites" in proposal.params
            if in_calls and self._leaves_factors(proposal.site, evidence):
                yield Refusal(self.name, proposal.site, "its value is a factor of a product elsewhere")
            else:
                yield proposal

    def params(self, module: nn.Module, name: str, evidence: Evidence) -> Mapping[str, Any] | Refusal:
        """Whether it bounds a factor of a product, as seen or else as its parent is written."""
        run = evidence.run(name)
        if run is not None:
            factor = self._is_factor_outside(name, evidence)
        else:
            path, _, key = name.rpartition(".")
            traced = evidence.traced(path) if evidence.example is None else None
            nodes = traced.evaluate.find_nodes(op="call_module", target=key) if isinstance(traced, Traced) else []
            factor = any(map(is_factor, nodes))
        return {"factor": True} if factor else {}

    def _leaves_factors(self, site: str, evidence: Evidence) -> bool:
        """Whether a factor elsewhere is not known for one within the forward that makes it."""
        traced = evidence.traced(site)
        found = self.patterns[0].matches(traced.evaluate) if isinstance(traced, Traced) else ()
        return any(not is_factor(match.root) for match in found) and self._is_factor_outside(site, evidence)

    def _is_factor_outside(self, site: str, evidence: Evidence) -> bool:
        """Whether what a module's own calls give was seen to be multiplied by another module."""
        observation, names = evidence.observation(), frozenset().union(*self.operations())
        if observation is None:
            return False
        calls = [call for call in observation.calls if call.module == site and call.function in names]
        return is_factor_when_run(observation, [name for call in calls for name in call.outputs], site)

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """ReLU, or a clamp to the same bounds."""
        return ClampedLine(1.0, 0.0, 0.0, 6.0) if params.get("factor") else super().replacement(module, params)

    def emit(self, graph: fx.Graph, match: Match) -> fx.Node:
        """A call of relu, or of clamp."""
        if is_factor(match.root):
            return graph.call_function(torch.clamp, (match.variables[0], 0.0, 6.0))
        return super().emit(graph, match)

    def snippets(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """Function, hardtanh and clamp."""
        return (F.relu6, lambda x: F.hardtanh(x, 0.0, 6.0), lambda x: x.clamp(0, 6))


class SiluToRelu(ToRelu):
    """SiLU (Swish), x * sigmoid(x), needs a look-up table or runs as two operators."""

    name = "silu_to_relu"
    removes = frozenset({"silu", "sigmoid", "mul"})
    types = (nn.SiLU,)
    class_names = (f"{_TIMM}.Swish", f"{_TIMM}_me.SwishMe", "mmcv.cnn.bricks.swish.Swish")
    patterns = (Formula(F.silu, "silu", "sigmoid mul"),)

    def snippets(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """Function, formula both ways round, method."""
        return (F.silu, lambda x: x * torch.sigmoid(x), lambda x: x.sigmoid() * x, lambda x: x.mul(F.sigmoid(x)))


class HardswishToRelu(ToRelu):
    """Hardswish, x * relu6(x + 3) / 6, is listed by few devices and runs as four operators elsewhere."""

    name = "hardswish_to_relu"
    removes = frozenset({"hardswish", "hardsigmoid", "hardtanh", "relu6", "clamp", "add", "mul", "div"})
    types = (nn.Hardswish,)
    class_names = (f"{_TIMM}.HardSwish", f"{_TIMM}_me.HardSwishMe", "mmcv.cnn.bricks.hswish.HSwish")
    patterns = (Formula(F.hardswish, "hardswish", "hardsigmoid mul", "relu6 mul", "hardtanh mul", "clamp mul"),)

    def snippets(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """Function and formulas."""
        return (
            F.hardswish,
            lambda x: x * F.hardsigmoid(x),
            lambda x: x * F.relu6(x + 3.0) / 6.0,
            lambda x: (F.relu6(3 + x) / 6) * x,
            lambda x: x * (x + 3).clamp(0, 6) * (1 / 6),
            lambda x: F.hardtanh(x + 3, 0.0, 6.0).mul(x).div(6),
        )


class GeluToRelu(ToRelu):
    """GELU, erf, tanh or sigmoid form, needs a look-up table or a fused pattern that few devices know."""

    name = "gelu_to_relu"
    removes = frozenset({"gelu", "erf", "tanh", "sigmoid", "pow", "add", "mul", "div"})
    types = (nn.GELU,)
    class_names = (f"{_TIMM}.GELU", f"{_TIMM}.GELUTanh", f"{_TIMM}.QuickGELU")
    patterns = (
        Formula(F.gelu, "gelu", "erf mul"),
        Formula(lambda x: F.gelu(x, approximate="tanh"), "gelu", "tanh mul"),
        Formula(lambda x: x * torch.sigmoid(1.702 * x), "sigmoid mul"),
    )

    def snippets(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """All forms."""
        return (
            F.gelu,
            lambda x: F.gelu(x, approximate="tanh"),
            lambda x: x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0))),
            lambda x: 0.5 * x * (1 + (x * 0.70710678).erf()),
            lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3)))),
            lambda x: 0.5 * x * (1 + torch.tanh(x * 0.7978845608 * (1 + 0.044715 * x * x))),
            lambda x: x * torch.sigmoid(1.702 * x),
        )


class MishToRelu(ToRelu):
    """Mish, x * tanh(softplus(x)), needs a look-up table or runs as three operators, its hard form as four."""

    name = "mish_to_relu"
    removes = frozenset({"mish", "softplus", "tanh", "clamp", "add", "mul"})
    types = (nn.Mish,)
    class_names = tuple(f"{_TIMM}{kind}" for kind in (".Mish", "_me.MishMe", ".HardMish", "_me.HardMishMe"))
    patterns = (
        Formula(F.mish, "mish", "softplus tanh mul", "exp tanh mul"),
        Formula(lambda x: 0.5 * x * (x + 2).clamp(0, 2), "clamp mul"),
    )

    def snippets(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """Function and formulas."""
        return (
            F.mish,
            lambda x: x * torch.tanh(F.softplus(x)),
            lambda x: x.mul(F.softplus(x).tanh()),
            lambda x: 0.5 * x * (x + 2).clamp(min=0, max=2),
        )


class EluToRelu(ToRelu):
    """ELU, CELU and SELU need an exponential for what ReLU sets to zero."""

    name = "elu_to_relu"
    removes = frozenset({"elu", "celu", "selu"})
    types = (nn.ELU, nn.CELU, nn.SELU)
    patterns = (CallPattern("elu", "celu", "selu"),)

    def snippets(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """Functions."""
        return (F.elu, lambda x: F.celu(x, 0.5), torch.selu)
