"""Take back what was done to a model: classes, attributes and children of its modules as they were."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from surgery.operating.walk import modules

_CONTAINERS: frozenset[Any] = frozenset({dict, list, set, OrderedDict})  # they change in place


class Snapshot:
    """The state of every module at one moment. Tensors are held, not copied: edits replace them."""

    def __init__(self, model: nn.Module) -> None:
        self._states = {module: _State(module) for module in modules(model)}

    def restore(self) -> None:
        """Every module is again what it was."""
        for module, state in self._states.items():
            if state.differs(module):
                state.restore(module)

    def changed(self) -> set[nn.Module]:
        """Modules of that moment with another class, another attribute, parameter or buffer, or other children."""
        return {module for module, state in self._states.items() if state.differs(module)}


class _State:
    """One module's class and attributes, and what its containers held; empty ones are not noted."""

    __slots__ = ("attributes", "contents", "kind")

    def __init__(self, module: nn.Module) -> None:
        held = vars(module)
        self.kind = type(module)
        self.attributes: dict[str, Any] = held.copy()
        self.contents: dict[str, Any] = {
            key: value.copy() for key, value in held.items() if value.__class__ in _CONTAINERS and value
        }

    def differs(self, module: nn.Module) -> bool:
        held, contents = vars(module), self.contents
        if type(module) is not self.kind or held.keys() != self.attributes.keys():
            return True
        for key, value in self.attributes.items():
            if held[key] is not value:
                return True
            if value.__class__ in _CONTAINERS and (value or key in contents) and not _same(value, contents.get(key)):
                return True
        return False

    def restore(self, module: nn.Module) -> None:
        module.__class__ = self.kind
        for key, value in self.attributes.items():
            if value.__class__ in _CONTAINERS:
                _fill(value, self.contents.get(key))
        vars(module).clear()
        vars(module).update(self.attributes)


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Whatever running the model stores on its modules or writes into their buffers is taken back."""
    snapshot = Snapshot(model)
    held = [b for module in modules(model) for b in module._buffers.values() if b is not None and not _is_lazy(b)]
    buffers = [(b, b._version, b.detach().clone()) for b in held]
    try:
        yield
    finally:
        snapshot.restore()
        with torch.no_grad():
            for buffer, version, value in buffers:
                if buffer._version != version:
                    buffer.copy_(value)


def _same(now: Any, then: Any) -> bool:
    """Whether a container holds the same objects in the same places."""
    if then is None or len(now) != len(then):
        return False
    if isinstance(now, dict):
        return all(key in then and then[key] is value for key, value in now.items())
    if isinstance(now, list):
        return all(a is b for a, b in zip(now, then, strict=True))
    return bool(now == then)


def _fill(container: Any, content: Any) -> None:
    container.clear()
    if isinstance(container, list):
        container.extend(content or ())
    else:
        container.update(content or ())


def _is_lazy(tensor: Tensor) -> bool:
    return type(tensor).__name__.startswith("Uninitialized")
