"""Trace one module's own forward, its children left as calls."""

import inspect
import random
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from surgery.errors import one_line
from surgery.observing.context import scopes
from surgery.observing.observe import ModuleRun
from surgery.observing.shapes import EXAMPLE, ChildRun, faked
from surgery.operating.modes import restored_modes

# What a rewritten module runs in train and in eval mode; see surgery.rewrite.
FORWARD = {True: "_surgery_forward_train", False: "_surgery_forward_eval"}


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


class _Scoped(fx.Tracer):
    """Children are leaves, so whatever they do inside cannot get in the way. Raises ValueError for lost scopes."""

    proxy_buffer_attributes = True  # what is computed from a buffer changes with it

    def __init__(self) -> None:
        super().__init__()
        self.modes_at_start = _scope()

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """A graph has no blocks, such as ``with torch.no_grad():``."""
        if _scope() != self.modes_at_start and not getattr(self, "running", False):
            raise ValueError("its forward runs calls under another gradient or autocast mode, which a graph would lose")
        return super().create_node(*args, **kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


class _ValueProxy(fx.Proxy):
    """A proxy that knows the value it stands for, so that len(), iteration and branches on shapes work."""

    value: Any
    tracer: "_Observed"

    def __len__(self) -> int:
        if isinstance(self.value, torch.Size):
            return len(self.value)
        if isinstance(self.value, torch.Tensor):
            return int(self.shape[0])
        return int(self.tracer.create_proxy("call_function", len, (self,), {}))

    def __index__(self) -> int:
        return int(self.tracer.decide(self))

    def __int__(self) -> int:
        return int(self.tracer.decide(self))

    def __float__(self) -> float:
        return float(self.tracer.decide(self))

    def __getattr__(self, name: str) -> Any:
        if not callable(getattr(self.value, name)):
            return self.tracer.create_proxy("call_function", getattr, (self, name), {})
        return super().__getattr__(name)


def _decidable(value: Any) -> Any:
    """Shapes and settings may decide what a graph looks like; what is in a tensor may not."""
    if isinstance(value, torch.Tensor):
        raise ValueError("its control flow depends on the values in a tensor")
    return value


class _Observed(_Scoped):
    """Carries along what each value was in the example run, tensors as fake ones: shape and dtype without data.

    Branches are decided as they were for the example inputs. Nodes keep their value in ``meta["example"]``.
    """

    def __init__(self, module: nn.Module, run: ModuleRun, child_run: ChildRun) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.given = arguments(module, run)
        self.child_run = child_run
        self.running = False  # values are computed, of which nothing is recorded
        self.decided = False

    def decide(self, proxy: _ValueProxy) -> Any:
        """A value that the graph holds for constant from here on; when it runs, it makes sure of it."""
        value = _decidable(proxy.value)
        if not self.running:
            self.decided = True
            super().create_proxy("call_function", same_as_example, (proxy, value), {})
        return value

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _ValueProxy(node, self)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self.running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        return forward(*args, **kwargs) if self.running else super().call_module(m, forward, args, kwargs)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any) -> Any:
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **named)
        outer, self.running = self.running, True
        try:
            with torch.no_grad(), self.fake:
                value = faked(self.fake, self._value(kind, target, args, kwargs))
        finally:
            self.running = outer
        proxy.__dict__["value"] = value
        proxy.node.meta[EXAMPLE] = value
        return proxy

    def settings(self) -> dict[str, Any]:
        """Arguments that are no tensors: the graph holds for these values and says so when it is given others."""
        return {name: value for name, value in self.given.items() if isinstance(value, _Setting)}

    def _value(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        if kind == "placeholder":
            name = target.lstrip("*")
            return self.given[name if name in self.given else _unnumbered(name)]
        args, kwargs = _concrete(args), _concrete(kwargs)
        if kind == "call_function":
            return target(*args, **kwargs)
        if kind == "call_method":
            if target in {"item", "tolist", "numpy"}:
                _decidable(args[0])
            return getattr(args[0], target)(*args[1:], **kwargs)
        if kind == "call_module":
            run = self.child_run(target)
            if run is not None and run.count == 1:
                return run.output
            return self.root.get_submodule(target).forward(*args, **kwargs)
        value: Any = self.root
        for part in target.split("."):
            value = getattr(value, part)
        return value

    def to_bool(self, obj: Any) -> bool:
        return bool(self.decide(obj))

    def iter(self, obj: Any) -> Any:
        return iter([obj[i] for i in range(len(obj))])


def same_as_example(found: Any, expected: Any) -> Any:
    """Part of a rewritten forward. Raises ValueError where a shape would lead it another way than the example did."""
    if isinstance(found, fx.Proxy):
        return found.tracer.create_proxy("call_function", same_as_example, (found, expected), {})
    if found != expected:
        raise ValueError(
            f"this layer was rewritten for images like the example's: {expected} was decided by their size, and it is "
            f"{found} now; run surgery with an example of this size"
        )
    return found


def given_as_in_the_example(argument: Any, name: str) -> Any:
    """Part of a rewritten forward. Raises ValueError where an optional tensor is missing that the example had."""
    if not isinstance(argument, torch.Tensor | fx.Proxy):
        raise ValueError(f"this layer was rewritten for calls with {name}, as the example's; run surgery without it")
    return argument


_Setting = bool | int | float | str | None


def _unnumbered(name: str) -> str:
    """The parameter's name: fx appends a number to one that has a fixed value."""
    return name.rpartition("_")[0]


def _concrete(value: Any) -> Any:
    if isinstance(value, _ValueProxy):
        return value.value
    if isinstance(value, list | tuple):
        items = [_concrete(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {key: _concrete(item) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(_concrete(value.start), _concrete(value.stop), _concrete(value.step))
    return value


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
            tracers = [_Observed(module, run, child_run) for _ in range(2)]
            train, evaluate = _both(module, *tracers)
            return Traced(train, evaluate, "observed", any(tracer.decided for tracer in tracers))
        except Exception as error:  # user code runs here: it may raise anything
            reasons.append("with its real inputs: " + one_line(error, 200))
    if method in {None, "symbolic"}:
        if optional := _optional_arguments(module):
            reasons.append(f"what it does may depend on its optional arguments {', '.join(optional)}")
        else:
            try:
                return Traced(*_both(module, _Scoped(), _Scoped()), method="symbolic")
            except Exception as error:  # user code runs here: it may raise anything
                reasons.append(one_line(error, 200))
    return Untraceable("; ".join(reasons) or "it never ran on the example inputs")


def _both(module: nn.Module, train: _Scoped, evaluate: _Scoped) -> tuple[fx.Graph, fx.Graph]:
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


def _optional_arguments(module: nn.Module) -> list[str]:
    """Those that most calls leave out: with a proxy in their place, ``is None`` would be decided wrong."""
    parameters = signature(module).parameters.values()
    return [parameter.name for parameter in parameters if parameter.default is not parameter.empty]


def arguments(module: nn.Module, run: ModuleRun) -> dict[str, Any]:
    """What the forward's parameters were in that run, defaults included."""
    bound = signature(module).bind(*run.args, **run.kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def signature(module: nn.Module) -> inspect.Signature:
    """Of the author's forward, which a forward that surgery made may hide behind one for each mode."""
    return inspect.signature(getattr(module, FORWARD[module.training], module.forward))


def _graph(module: nn.Module, tracer: _Scoped, training: bool) -> fx.Graph:
    forward = FORWARD[training] if hasattr(type(module), FORWARD[training]) else "forward"
    tracer.traced_func_name = forward
    with _unchanged(module), _same_random_state(), restored_modes(module):
        module.train(training)  # what runs of children runs on fake values, which change nothing
        graph = tracer.trace(module, tracer.settings() if isinstance(tracer, _Observed) else None)
    if isinstance(tracer, _Observed):
        optional = set(_optional_arguments(module))
        placeholders = list(graph.find_nodes(op="placeholder"))
        for node in placeholders:
            if str(node.target).lstrip("*") not in tracer.given:
                node.target = _unnumbered(str(node.target))
            if node.target in optional and isinstance(tracer.given[str(node.target)], torch.Tensor):
                with graph.inserting_after(placeholders[-1]):
                    graph.call_function(given_as_in_the_example, (node, str(node.target)))
    graph.owning_module = module  # type: ignore[assignment]
    return graph


@contextmanager
def _unchanged(module: nn.Module) -> Iterator[None]:
    """Tracing runs the author's forward: what it stores on the module is put back, and is a reason not to trace it.

    Raises ValueError for that. Tensors that forward makes are stored by fx itself; they become buffers.
    """
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
    if changed := sorted((stored - constants.keys()) | moved):
        raise ValueError(f"its forward stores values on the module ({', '.join(changed)})")
    if any(value.requires_grad for value in constants.values()):
        raise ValueError("its forward computes something of parameters that it reads past the module's attributes")
    for name, value in constants.items():
        module.register_buffer(name, value, persistent=False)


def _scope() -> tuple[bool, ...]:
    """What a block can change for the calls inside it."""
    return torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")


@contextmanager
def _same_random_state() -> Iterator[None]:
    """Raises ValueError where tracing drew random numbers: in a graph they would be the same ones for ever."""
    before = torch.get_rng_state(), random.getstate()
    yield
    if not torch.equal(before[0], torch.get_rng_state()) or before[1] != random.getstate():
        torch.set_rng_state(before[0])
        random.setstate(before[1])
        raise ValueError("its forward draws random numbers that do not depend on its input")


def _differs(now: torch.Tensor | None, held: tuple[torch.Tensor, torch.Tensor]) -> bool:
    return now is not held[0] or not torch.equal(held[0], held[1])
