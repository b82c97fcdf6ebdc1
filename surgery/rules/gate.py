"""Gates inside a larger forward: ``x * self.se(x)``, ``x * sigmoid(self.fc(pool(x)))``, selective kernels."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from surgery.observing.evidence import Evidence
from surgery.observing.names import canonical
from surgery.observing.shapes import example
from surgery.observing.trace import Traced, Untraceable
from surgery.operating.rewrite import call_new_module, put_in_place
from surgery.operating.rewritten_forward import install_rewritten
from surgery.record import Edit, Refusal
from surgery.risk import Risk
from surgery.rule import Example, Promise, Rule, Stage, submodule
from surgery.rule_parts.gates import Gate, find_and_measure, mean_gate
from surgery.rule_parts.operator_names import GATE
from surgery.rules.channel_scale import ChannelScale


class _Block(nn.Module):
    """A residual block with its gate written out, and one whose two kernels are selected by a softmax."""

    def __init__(self, select: bool) -> None:
        super().__init__()
        self.select = select
        self.conv = nn.Conv2d(4, 8 if select else 4, 3, padding=1)
        self.fc = nn.Conv2d(4, 8 if select else 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        if not self.select:
            gate: Tensor = torch.sigmoid(self.fc(y.mean((2, 3), keepdim=True)))
            return x + y * gate
        y = y.view(y.shape[0], 2, 4, y.shape[2], y.shape[3])
        weights = self.fc(y.sum(1).mean((2, 3), keepdim=True)).view(-1, 2, 4, 1, 1).softmax(1)
        selected: Tensor = (y * weights).sum(1)
        return selected


class GateInForward(Rule):
    """A product with a gate becomes one with the gate's mean over the calibration data, a constant per channel
    that starts at 1 (1 / branches for a softmax over branches) where there is no data; what made the gate goes."""

    name = "gate"
    promise = Promise.SAME_SHAPE
    risk = Risk.CONSTANT
    removes = GATE
    emits = frozenset({"mul"})
    stage = Stage.BLOCK

    def examples(self) -> Sequence[Example]:
        """A gate inside a block, selected branches; a product with a parameter stays."""

        class Parameter(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.scale = nn.Parameter(torch.full((1, 4, 1, 1), 0.5))

            def forward(self, x: Tensor) -> Tensor:
                return x * torch.sigmoid(self.scale)

        shape = (2, 4, 5, 5)
        gated = [Example(lambda select=select: _Block(select), shape, 1) for select in (False, True)]  # type: ignore[misc]
        return [*gated, Example(Parameter, shape, 0)]

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Products in modules that do more than gate their input."""
        sites: dict[str, list[Gate]] = {}
        for gate in find_and_measure(evidence):
            if not gate.whole:
                sites.setdefault(gate.module, []).append(gate)
        for site, gates in sites.items():
            yield self._proposal(site, gates, evidence)

    def _proposal(self, site: str, gates: Sequence[Gate], evidence: Evidence) -> Edit | Refusal:
        traced = evidence.traced(site)
        if isinstance(traced, Untraceable):
            return Refusal(self.name, site, f"it multiplies by a gate; cannot trace it: {traced.reason}")
        made = [_params(gate) for gate in gates]
        try:
            removed = _rewrite_both(traced, made)
        except LookupError as error:
            return Refusal(self.name, site, str(error))
        evidence.rewritten.keep(self.name, site, traced)
        params = {"rewrites": _counts(gates), "trace": traced.method, "gates": made, "removed": removed}
        return self.edit(site, f"{len(gates)} x gate -> constant per channel in forward", params)

    def apply(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """Rewrite the module's forward; children and parameters that only the gates used are removed."""
        module = submodule(model, edit.site)
        gates = edit.params["gates"]

        def rewrite(traced: Traced) -> dict[str, int]:
            _rewrite_both(traced, gates)
            return _counts(gates)

        install_rewritten(module, edit, evidence, rewrite)
        for target in edit.params["removed"]:
            _remove(module, target)

    def warm_start(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """The measured mean gates."""
        module = model.get_submodule(edit.site)
        for gate in edit.params["gates"]:
            mean = mean_gate(evidence, edit.site, gate["index"])
            if mean is not None:
                with torch.no_grad():
                    module.get_submodule(_name(gate)).scale.copy_(mean)  # type: ignore[operator]


def _counts(gates: Sequence[Any]) -> dict[str, int]:
    return dict.fromkeys(("train", "eval"), len(gates))


def _params(gate: Gate) -> dict[str, Any]:
    return {
        **{"index": gate.index, "factor": gate.factor, "shape": list(gate.shape)},
        **{"value": gate.neutral, "last": gate.last},
    }


def _name(gate: Mapping[str, Any]) -> str:
    return f"mean_gate_{gate['index']}"


def _rewrite_both(traced: Traced, gates: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rewrite the graphs in place; the children and parameters that they read no longer."""
    graphs = (traced.train, traced.evaluate)
    before = _reads(graphs)
    for graph in graphs:
        _rewrite(graph, gates)
    return sorted(before - _reads(graphs))


def _rewrite(graph: fx.Graph, gates: Sequence[Mapping[str, Any]]) -> None:
    """Raises LookupError where the graph has other products than the model was seen to compute."""
    products = [n for n in graph.nodes if _is_product(n)]
    for gate in gates:
        if gate["index"] >= len(products):
            raise LookupError(f"its forward has {len(products)} products, the gate was number {gate['index']}")
        node = products[gate["index"]]
        arguments = [*node.args, *node.kwargs.values()]
        x, factor = arguments[1 - gate["factor"]], arguments[gate["factor"]]
        value, other = example(x), example(factor)
        if not (isinstance(x, fx.Node) and isinstance(value, Tensor) and isinstance(other, Tensor)):
            raise LookupError("what its forward multiplies is not known")
        if value.ndim < 4 or value.ndim != other.ndim or value.shape != example(node).shape:
            raise LookupError("its traced forward multiplies other shapes than were seen")
        scale = ChannelScale(*gate["shape"], value=gate["value"], last=gate["last"])
        scale = scale.to(value.device, value.dtype)
        with graph.inserting_after(node):
            new = call_new_module(graph, _name(gate), scale, (x,))
        put_in_place(node, new, (x,))


def _is_product(node: fx.Node) -> bool:
    called = node.op in {"call_function", "call_method"} and canonical(node.target) == "mul"
    return called and isinstance(example(node), Tensor)


def _reads(graphs: Sequence[fx.Graph]) -> set[str]:
    return {str(n.target) for graph in graphs for n in graph.nodes if n.op in {"call_module", "get_attr"}}


def _remove(module: nn.Module, target: str) -> None:
    path, _, name = target.rpartition(".")
    parent = module.get_submodule(path)
    if name in parent._modules or name in parent._parameters or name in parent._buffers:
        delattr(parent, name)
