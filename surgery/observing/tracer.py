"""The tracers: proxies for a module's own forward that know what values were in the example run."""

from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from surgery.observing.forward import arguments
from surgery.observing.observe import ModuleRun
from surgery.observing.shapes import EXAMPLE, ChildRun, faked


class Scoped(fx.Tracer):
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
    tracer: "Observed"

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


class Observed(Scoped):
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
            return self.given[name if name in self.given else unnumbered(name)]
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


def unnumbered(name: str) -> str:
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


def _scope() -> tuple[bool, ...]:
    """What a block can change for the calls inside it."""
    return torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")
