"""Trace one module's own forward, its children left as calls."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn

from surgery.errors import one_line
from surgery.observing.context import scopes
from surgery.observing.forward import FORWARD, optional_arguments
from surgery.observing.observe import ModuleRun
from surgery.observing.shapes import ChildRun
from surgery.observing.tracer import Observed, Scoped, given_as_in_the_example, unnumbered
from surgery.operating.modes import restored_modes
from surgery.operating.undo import Snapshot


@dataclass(frozen=True)
class Traced:
    """The graphs of one module in train and in eval mode; how they were made, for replay."""

    train: fx.Graph
    evaluate: fx.Graph
    method: str  # symbolic or observed
    decided: bool = False  # a shape of the example run decided what the graph looks like

    def copy(self, module: nn.Module) -> "Traced":
        """The same graphs, to be rewritten apart, of a module that is alike."""
        return replace(self, train=_copied(self.train, module), evaluate=_copied(self.evaluate, module))

    def is_of_any_alike(self) -> bool:
        """Whether they hold no tensor that tracing put on this one module."""
        nodes = [*self.train.find_nodes(op="get_attr"), *self.evaluate.find_nodes(op="get_attr")]
        return not any(str(node.target).startswith("_tensor_constant") for node in nodes)


@dataclass(frozen=True)
class Untraceable:
    """Why a module's own forward could not be traced."""

    reason: str


def trace(
    module: nn.Module, run: ModuleRun | None = None, child_run: ChildRun = lambda name: None, method: str | None = None
) -> Traced | Untraceable:
    """Graphs of the module's own forward: with the inputs it received in ``run``, or else symbolically.

    ``child_run`` tells what a child, by its name in the module, received and returned. ``method`` forces one of the
    two, as a plan says. The module's flags, values and children are left as they were.
    """
    if used := scopes(module):
        return Untraceable(f"its forward runs calls inside {', '.join(used)}, which a graph would lose")
    if "forward" in vars(module):
        return Untraceable("its forward was set on this one module, not in its class")
    reasons = []
    if method in {None, "observed"} and run is not None:
        try:
            tracers = [Observed(module, run, child_run) for _ in range(2)]
            train, evaluate = _both(module, *tracers)
            return Traced(train, evaluate, "observed", any(tracer.decided for tracer in tracers))
        except Exception as error:  # user code runs here: it may raise anything
            reasons.append("with its real inputs: " + one_line(error, 200))
    if method in {None, "symbolic"}:
        if optional := optional_arguments(module):
            reasons.append(f"what it does may depend on its optional arguments {', '.join(optional)}")
        else:
            try:
                return Traced(*_both(module, Scoped(), Scoped()), method="symbolic")
            except Exception as error:  # user code runs here: it may raise anything
                reasons.append(one_line(error, 200))
    return Untraceable("; ".join(reasons) or "it never ran on the example inputs")


def _both(module: nn.Module, train: Scoped, evaluate: Scoped) -> tuple[fx.Graph, fx.Graph]:
    """Graphs of train and of eval mode."""
    return _graph(module, train, True), _graph(module, evaluate, False)


def _copied(graph: fx.Graph, module: nn.Module) -> fx.Graph:
    copied = deepcopy(graph)
    copied.owning_module = module  # type: ignore[assignment]
    return copied


def compiled(graph: fx.Graph) -> tuple[Any, str]:
    """The graph as a function of the module and the arguments of its forward, and its source."""
    code = graph.python_code("self")
    names = dict(code.globals)
    exec(compile(code.src, "<surgery>", "exec"), names)
    return names["forward"], code.src


def _graph(module: nn.Module, tracer: Scoped, training: bool) -> fx.Graph:
    forward = FORWARD[training] if hasattr(type(module), FORWARD[training]) else "forward"
    tracer.traced_func_name = forward
    with _unchanged(module), same_random_state(), restored_modes(module):
        module.train(training)  # what runs of children runs on fake values, which change nothing
        graph = tracer.trace(module, tracer.settings() if isinstance(tracer, Observed) else None)
    if isinstance(tracer, Observed):
        optional = set(optional_arguments(module))
        placeholders = list(graph.find_nodes(op="placeholder"))
        for node in placeholders:
            if str(node.target).lstrip("*") not in tracer.given:
                node.target = unnumbered(str(node.target))
            if node.target in optional and isinstance(tracer.given[str(node.target)], torch.Tensor):
                with graph.inserting_after(placeholders[-1]):
                    graph.call_function(given_as_in_the_example, (node, str(node.target)))
    graph.owning_module = module  # type: ignore[assignment]
    return graph


@contextmanager
def _unchanged(module: nn.Module) -> Iterator[None]:
    """Tracing runs the author's forward: what it stores on the module is put back, and is a reason not to trace it.

    Raises ValueError for that, but for a key added to a dict: that is a cache, and a graph computes its value anew.
    Tensors that forward makes are stored by fx itself; they become buffers.
    """
    snapshot = Snapshot(module)
    attributes = dict(vars(module))
    buffers = {name: None if b is None else (b, b.detach().clone()) for name, b in module._buffers.items()}
    stored: set[str] = set()
    constants: dict[str, torch.Tensor] = {}
    try:
        yield
    finally:
        stored = {n for n, v in vars(module).items() if n not in attributes or attributes[n] is not v} - {"training"}
        for name in sorted(stored):
            if name.startswith("_tensor_constant") and name not in attributes:
                constants[name] = vars(module).pop(name)
            elif name in attributes:
                vars(module)[name] = attributes[name]
            else:
                del vars(module)[name]
        moved = {name for name, held in buffers.items() if held and _differs(module._buffers.get(name), held)}
        for name in moved:
            tensor, value = buffers[name]  # type: ignore[misc]
            with torch.no_grad():
                module._buffers[name] = tensor.copy_(value)
        inside = snapshot.overwritten()
        snapshot.restore()
    if changed := sorted((stored - constants.keys()) | moved):
        raise ValueError(f"its forward stores values on the module ({', '.join(changed)})")
    if inside:
        raise ValueError("its forward stores values in what the module holds")
    if any(value.requires_grad for value in constants.values()):
        raise ValueError("its forward computes something of parameters that it reads past the module's attributes")
    for name, value in constants.items():
        module.register_buffer(name, value, persistent=False)


@contextmanager
def same_random_state() -> Iterator[None]:
    """Raises ValueError where tracing drew random numbers: in a graph they would be the same ones for ever."""
    before = torch.get_rng_state(), random.getstate()
    yield
    if not torch.equal(before[0], torch.get_rng_state()) or before[1] != random.getstate():
        torch.set_rng_state(before[0])
        random.setstate(before[1])
        raise ValueError("its forward draws random numbers that do not depend on its input")


def _differs(now: torch.Tensor | None, held: tuple[torch.Tensor, torch.Tensor]) -> bool:
    return now is not held[0] or not torch.equal(held[0], held[1])
