"""What rules may know about the model at hand: what its forward does, and what calibration data measures."""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from surgery.modes import restored_modes
from surgery.names import of_module
from surgery.observe import ModuleRun, Observation, observe, tensors
from surgery.shapes import annotate
from surgery.trace import FORWARD, Traced, Untraceable, trace

_OPERATORS = {"add", "sub", "mul", "div"}  # written as symbols, so any forward may have them
# Modules that are nothing but a call of the function they are named for; rules match them as modules.
_ONE_CALL = {"torch.nn.modules.activation", "torch.nn.modules.dropout"}


class Evidence:
    """Observations of one state of a model, made when first asked for.

    ``inputs`` are positional example inputs (none: only what can be told without running the model); ``calibration``
    are batches of model inputs (None: there are none).
    """

    def __init__(self, model: nn.Module, inputs: Sequence[Any] | None, calibration: Iterable[Tensor] | None) -> None:
        self.model = model
        self.inputs = inputs
        self.calibration = calibration
        self._observation: Observation | None = None
        self._gates: dict[str, Tensor] = {}

    def observation(self) -> Observation | None:
        """One forward of the model, or None without example inputs."""
        if self._observation is None and self.inputs is not None:
            self._observation = observe(deepcopy(self.model), self.inputs)  # a forward may count or store
        return self._observation

    def run(self, name: str) -> ModuleRun | None:
        """What a module received and returned, if it ran."""
        observation = self.observation()
        return None if observation is None else observation.runs.get(name)

    def traced(self, name: str, method: str | None = None, module: nn.Module | None = None) -> Traced | Untraceable:
        """The graphs of a module's own forward, for a rule to rewrite; see ``Match`` for what their nodes know.

        ``module`` is the one to trace where it is a copy of this model's.
        """
        module, run = module or self.model.get_submodule(name), self.run(name)
        found = trace(module, run, method)
        if isinstance(found, Traced) and run is not None:
            for graph in (found.train, found.evaluate):
                annotate(graph, module, run, lambda child: self.run(f"{name}.{child}".lstrip(".")))
        return found

    def own_calls(self, sets: Iterable[frozenset[str]], inplace_only: bool = False) -> dict[str, set[str]]:
        """Modules whose own forward has all operations of one of the sets, at least one of them as a call.

        ``inplace_only`` passes over calls that were seen to leave their input alone.
        """
        sets = tuple(sets)
        observation = self.observation()
        observed = observation.functions(inplace_only) if observation else {}
        found: dict[str, set[str]] = {}
        for name, module in self.model.named_modules():
            if type(module).__module__ in _ONE_CALL:
                continue
            calls = observed.get(name, set()) if observation else _written_names(module)
            children = {of_module(child) for child in module.children()}
            hit = set().union(*(wanted & calls for wanted in sets if wanted <= calls | children))
            if hit:
                found[name] = hit
        return found

    def mean_gates(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Mean of each channel gate over the calibration data, shape (C,).

        A gate multiplies its input x (N, C, H, W) by one factor g per image and channel, so g = <out, x> / <x, x>;
        where x is zero the image has no say. A channel that is zero everywhere gets 1.
        """
        if missing := [name for name in names if name not in self._gates]:
            self._gates |= _measure_gates(deepcopy(self.model), missing, self.calibration or ())
        return {name: self._gates[name] for name in names}


def _written_names(module: nn.Module) -> set[str]:
    kind = type(module)
    forwards = [kind.forward, *(getattr(kind, name) for name in FORWARD.values() if hasattr(kind, name))]
    codes = [forward.__code__ for forward in forwards if hasattr(forward, "__code__")]
    return {name.strip("_") for code in codes for name in code.co_names} | _OPERATORS


def _measure_gates(model: nn.Module, names: Sequence[str], batches: Iterable[Tensor]) -> dict[str, Tensor]:
    sums: dict[str, Tensor] = {}
    counts: dict[str, Tensor] = {}
    handles = []
    for name in names:

        def measure(module: nn.Module, args: Any, kwargs: Any, out: Tensor, name: str = name) -> None:
            x = tensors([args, kwargs])[0].flatten(2).double()
            energy = (x * x).sum(2)
            seen = (energy > 0).double()
            gate = (out.flatten(2).double() * x).sum(2) / energy.clamp_min(torch.finfo(torch.float64).tiny)
            sums[name] = sums.get(name, 0) + (gate * seen).sum(0)
            counts[name] = counts.get(name, 0) + seen.sum(0)

        handles.append(model.get_submodule(name).register_forward_hook(measure, with_kwargs=True))
    try:
        with restored_modes(model), torch.no_grad():
            model.eval()
            for batch in batches:
                model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return {
        name: torch.where(counts[name] > 0, sums[name] / counts[name].clamp_min(1), 1.0)
        for name in names
        if name in sums
    }
