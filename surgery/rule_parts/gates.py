"""Gates in what a model was seen to do: products of a feature map with a factor that is computed from the data.

A gate is told by what it is, not by its class: the product of (N, C, H, W) with a data-dependent (N, C, 1, 1),
(N, 1, 1, 1) or, where it is bounded, (N, 1, H, W); with channels last, or branches stacked on one more axis, alike.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from surgery.observing.call_flow import VIEWS, Flow, flow
from surgery.observing.evidence import Evidence
from surgery.observing.module_stack import module_stack
from surgery.observing.names import canonical
from surgery.observing.observe import Call, Observation, is_same, tensors, token
from surgery.operating.example import call_with
from surgery.operating.modes import restored_modes
from surgery.operating.undo import preserved

LAYERS = frozenset(
    ["conv1d", "conv2d", "conv3d", "linear", "matmul", "bmm", "baddbmm", "addmm", "einsum", "batch_norm"]
)
_BOUNDED = frozenset(["sigmoid", "hardsigmoid", "softmax", "tanh", "relu6", "hardtanh", "clamp"])
_POOLS = frozenset(["mean", "adaptive_avg_pool2d", "avg_pool2d", "amax", "sum", "adaptive_max_pool2d", "max"])
_NORMS = frozenset(["rsqrt", "sqrt", "var", "var_mean", "std"])


@dataclass(frozen=True)
class Gate:
    """One product in a module's own forward whose factor is a gate."""

    module: str  # qualified name
    index: int  # which of the products of tensors in one run of that forward
    factor: int  # which of its two arguments is the gate
    shape: tuple[int, ...]  # of the constant that can stand for it: (C,); (R, C) for R stacked branches
    neutral: float  # what the factor is on average before anything is learned or measured
    last: bool  # channels are the last axis
    whole: bool  # the module returns this product of its input, and does nothing else


def find(observation: Observation) -> list[Gate]:
    """All gates of one forward, in order, each once."""
    return list({(gate.module, gate.index): gate for gate in _gates(observation)}.values())


def find_and_measure(evidence: Evidence) -> list[Gate]:
    """All gates of a model; their means over the calibration data, where there is any, are what ``mean_gate`` tells.

    They are measured where the warm start has gates. The whole model is only looked at where some product could be a
    gate. Without example inputs there are none.
    """
    if not any(_factor(call) for name, _ in evidence.modules() for call in evidence.calls(name)):
        return []
    observation = evidence.observation()
    gates = find(observation) if observation else []
    known = _measured.setdefault(evidence, {})
    batches = evidence.calibration if evidence.warm_start.gates else None
    if batches is not None and any((gate.module, gate.index) not in known for gate in gates):
        known |= _measure(evidence.model, gates, batches)
    return gates


def mean_gate(evidence: Evidence, module: str, index: int) -> Tensor | None:
    """Mean over the calibration data and the map of a gate that ``find_and_measure`` found, in its ``shape``."""
    return _measured.get(evidence, {}).get((module, index))


_measured: WeakKeyDictionary[Evidence, dict[tuple[str, int], Tensor]] = WeakKeyDictionary()


def _measure(model: nn.Module, gates: Sequence[Gate], batches: Iterable[Tensor]) -> dict[tuple[str, int], Tensor]:
    meter = _Meter(gates)
    handles = [
        model.get_submodule(name).register_forward_pre_hook(lambda _module, _args, name=name: meter.start(name))
        for name in {gate.module for gate in gates}
    ]
    try:
        with preserved(model), restored_modes(model), torch.no_grad(), module_stack(model) as stack:
            model.eval()
            meter.stack = stack
            for batch in batches:
                with meter:
                    call_with(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return {key: total / meter.counts[key] for key, total in meter.sums.items()}


class _Meter(TorchFunctionMode):
    def __init__(self, gates: Sequence[Gate]) -> None:
        super().__init__()
        self.gates = {(gate.module, gate.index): gate for gate in gates}
        self.stack: list[str] = []
        self.seen: dict[str, int] = {}
        self.sums: dict[tuple[str, int], Tensor] = {}
        self.counts: dict[tuple[str, int], int] = {}

    def start(self, module: str) -> None:
        self.seen[module] = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if canonical(func) == "mul" and self.stack and self.stack[-1] in self.seen:
            key = (self.stack[-1], self.seen[self.stack[-1]])
            self.seen[key[0]] += 1
            if key in self.gates:
                self._add(key, [*args, *(kwargs or {}).values()][self.gates[key].factor])
        return func(*args, **(kwargs or {}))

    def _add(self, key: tuple[str, int], factor: Tensor) -> None:
        shape = self.gates[key].shape
        factor = factor.detach().double()
        mean = (factor.mean((1, 2)) if self.gates[key].last else factor.mean((-2, -1))).sum(0)
        self.sums[key] = self.sums.get(key, torch.zeros(shape, dtype=mean.dtype, device=mean.device)) + mean
        self.counts[key] = self.counts.get(key, 0) + len(factor)


def _gates(observation: Observation) -> Iterator[Gate]:
    products: dict[str, int] = {}
    for call in observation.calls:
        if call.function == "mul":
            products[call.module] = products.get(call.module, 0) + 1
    known: Flow | None = None
    index = dict.fromkeys(products, -1)
    for at, call in enumerate(observation.calls):
        if call.function != "mul":
            continue
        index[call.module] += 1
        found = _factor(call)
        if found is None:
            continue
        kind, factor = found
        arguments = [*call.args, *call.kwargs.values()]
        x, gate = arguments[1 - factor], arguments[factor]
        known = known or flow(observation)
        if not _is_gate(kind, known, at, x, gate):
            continue
        run, last = observation.runs[call.module], kind == "channels last"
        per_run = products[call.module] // run.count
        whole = call.module != "" and is_same(run.output, call.output) and is_same(_input(run), x)
        shape = (x.shape[-1],) if last else tuple(x.shape[1:2]) if x.ndim == 4 else tuple(gate.shape[1:-2])
        yield Gate(call.module, index[call.module] % per_run, factor, shape, _neutral(known, at, gate), last, whole)


def _factor(call: Call) -> tuple[str, int] | None:
    """What kind of gate a product may be by its shapes, and which of its arguments."""
    arguments = [*call.args, *call.kwargs.values()]
    if call.function != "mul" or len(arguments) != 2 or not all(isinstance(value, Tensor) for value in arguments):
        return None
    for factor in (1, 0):
        if kind := _kind(arguments[1 - factor], arguments[factor]):
            return kind, factor
    return None


def _input(run: Any) -> Tensor | None:
    return next(iter(tensors([run.args, run.kwargs])), None)


def _kind(x: Tensor, gate: Tensor) -> str | None:
    if x.ndim < 4 or gate.ndim != x.ndim or gate.shape[0] != x.shape[0] or gate is x:
        return None
    fits = all(g in (1, n) for g, n in zip(gate.shape, x.shape, strict=True))
    one, expanded = tuple(gate.shape[-2:]) == (1, 1), gate.stride()[-2:] == (0, 0)
    if fits and x.shape[-2:].numel() > 1 and (one or (expanded and gate.shape == x.shape)):
        return "channel"
    if (
        fits
        and x.ndim == 4
        and gate.shape[1:3] == (1, 1)
        and x.shape[1:3].numel() > 1
        and gate.shape[3] == x.shape[3] > 1
    ):
        return "channels last"
    if fits and one and gate.shape == x.shape and gate.numel() > len(gate):
        return "channel of one pixel"
    thin = gate.shape[1] == 1 or gate.stride()[1] == 0
    return "spatial" if fits and x.ndim == 4 and x.shape[1] > 1 and thin and gate.shape[2:] == x.shape[2:] else None


def _is_gate(kind: str, flow: Flow, at: int, x: Tensor, gate: Tensor) -> bool:
    """Data-dependent, no normalisation; bounded unless it is a factor per channel; at one pixel, pooled."""
    source = flow.sources[at].get(token(gate))
    if source is None or not flow.depends[source]:
        return False
    if flow.branch(at, gate, x, LAYERS) & _NORMS:
        return False
    if kind in {"channel", "channels last"}:
        return True
    last = flow.back(at, gate, VIEWS | {"div", "mul", "add"})
    bounded = last is not None and flow.calls[last].function in _BOUNDED
    return bounded and (kind == "spatial" or bool(flow.branch(at, gate, x, frozenset()) & _POOLS))


def _neutral(flow: Flow, at: int, gate: Tensor) -> float:
    """1 / branches for a softmax over branches, else 1."""
    last = flow.back(at, gate, VIEWS)
    if last is None or flow.calls[last].function != "softmax":
        return 1.0
    call = flow.calls[last]
    dim = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else -1)
    return 1.0 / float(tensors(call.output)[0].shape[dim])
