"""Trace one module's own forward, its children left as calls."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from surgery.observe import ModuleRun

# What a rewritten module runs in train and in eval mode; see surgery.rewrite.
FORWARD = {True: "_surgery_forward_train", False: "_surgery_forward_eval"}


@dataclass(frozen=True)
class Traced:
    """The graphs of one module in train and in eval mode; how they were made, for replay."""

    train: fx.Graph
    evaluate: fx.Graph
    method: str  # symbolic or observed


@dataclass(frozen=True)
class Untraceable:
    """Why a module's own forward could not be traced."""

    reason: str


class _Scoped(fx.Tracer):
    """Children are leaves, so whatever they do inside cannot get in the way."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


class _ValueProxy(fx.Proxy):
    """A proxy that knows the value it stands for, so that len(), iteration and branches on shapes work."""

    value: Any

    def __len__(self) -> int:
        return len(self.value)

    def __index__(self) -> int:
        return int(_decidable(self.value))

    def __int__(self) -> int:
        return int(_decidable(self.value))

    def __float__(self) -> float:
        return float(_decidable(self.value))

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
    """Carries the real values along; branches on them are decided as they were for the example inputs."""

    def __init__(self, run: ModuleRun) -> None:
        super().__init__()
        self.given = list(run.args)
        self.named: Mapping[str, Any] = run.kwargs

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _ValueProxy(node, self)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any) -> Any:
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **named)
        proxy.__dict__["value"] = self._value(kind, target, args, kwargs)
        return proxy

    def _value(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        if kind == "placeholder":
            name = target.lstrip("*")
            if name in self.named:
                return self.named[name]
            return self.given.pop(0) if self.given else (args[0] if args else None)
        args, kwargs = _concrete(args), _concrete(kwargs)
        with torch.no_grad():
            if kind == "call_function":
                return target(*args, **kwargs)
            if kind == "call_method":
                if target in {"item", "tolist", "numpy"}:
                    _decidable(args[0])
                return getattr(args[0], target)(*args[1:], **kwargs)
            if kind == "call_module":
                return self.root.get_submodule(target).forward(*args, **kwargs)
        value: Any = self.root
        for part in target.split("."):
            value = getattr(value, part)
        return value

    def to_bool(self, obj: Any) -> bool:
        return bool(_decidable(obj.value))

    def iter(self, obj: Any) -> Any:
        return iter([obj[i] for i in range(len(obj.value))])


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


def trace(module: nn.Module, run: ModuleRun | None = None, method: str | None = None) -> Traced | Untraceable:
    """Graphs of the module's own forward: symbolically, or else with the inputs it received in ``run``.

    ``method`` forces one of the two, as a plan says. The module's flags and children are left as they were.
    """
    reasons = []
    if method in {None, "symbolic"}:
        try:
            return Traced(_graph(module, _Scoped(), True), _graph(module, _Scoped(), False), "symbolic")
        except Exception as error:  # user code runs here: it may raise anything
            reasons.append(_one_line(error))
    if method in {None, "observed"} and run is not None:
        try:
            return Traced(_graph(module, _Observed(run), True), _graph(module, _Observed(run), False), "observed")
        except Exception as error:  # user code runs here: it may raise anything
            reasons.append("with its real inputs: " + _one_line(error))
    return Untraceable("; ".join(reasons) or "it never ran on the example inputs")


def _graph(module: nn.Module, tracer: fx.Tracer, training: bool) -> fx.Graph:
    flag, known = module.training, set(vars(module))
    module.training = training
    if hasattr(type(module), FORWARD[training]):
        tracer.traced_func_name = FORWARD[training]
    try:
        graph = tracer.trace(module)
    finally:
        module.training = flag
    for name in set(vars(module)) - known:
        # fx stores tensors made in forward as plain attributes; as buffers they follow the module to its device.
        if isinstance(value := vars(module)[name], torch.Tensor):
            delattr(module, name)
            module.register_buffer(name, value, persistent=False)
    graph.owning_module = module  # type: ignore[assignment]
    return graph


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
