"""Take back what was done to a model: classes, attributes and children of its modules as they were."""

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from surgery.operating.walk import modules

# They change in place.
_CONTAINERS: frozenset[Any] = frozenset({dict, list, set, OrderedDict, defaultdict, deque, Counter})
_OF_TORCH = frozenset({"_parameters", "_buffers", "_modules"})  # they hold no containers
_written: Any = WeakTensorKeyDictionary()  # parameters that a run was seen to write into


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

    def overwritten(self) -> set[nn.Module]:
        """``changed``, but for modules that did nothing but add keys to dicts that they hold, as caches do."""
        return {module for module in self.changed() if self._states[module].differs(module, new_keys=True)}

    def parameters(self) -> Iterator[Tensor]:
        """Those of all modules."""
        for state in self._states.values():
            yield from (p for p in state.contents.get("_parameters", {}).values() if p is not None)

    def buffers(self) -> Iterator[Tensor]:
        """Tensors that modules hold and that are no parameters, registered or not, in containers too."""
        for state in self._states.values():
            for held in (state.attributes, *state.containers()):
                values = held.values() if isinstance(held, dict) else held
                yield from (value for value in values if value.__class__ is Tensor)

    @contextmanager
    def standing(self, model: nn.Module) -> Iterator[None]:
        """Inside, the model is what it was at that moment; after, what it is now."""
        now = Snapshot(model)
        self.restore()
        try:
            yield
        finally:
            now.restore()


class _State:
    """One module's class and attributes, and what its containers held; empty ones are noted inside others only."""

    __slots__ = ("attributes", "contents", "inner", "kind")

    def __init__(self, module: nn.Module) -> None:
        held = vars(module)
        self.kind = type(module)
        self.attributes: dict[str, Any] = held.copy()
        self.contents: dict[str, Any] = {
            key: value.copy() for key, value in held.items() if value.__class__ in _CONTAINERS and value
        }
        self.inner: dict[int, tuple[Any, Any]] = {}
        for key, content in self.contents.items():
            if key not in _OF_TORCH:
                _note_inner(content, self.inner)

    def containers(self) -> Iterator[Any]:
        """What all noted containers held."""
        yield from self.contents.values()
        yield from (content for _, content in self.inner.values())

    def differs(self, module: nn.Module, new_keys: bool = False) -> bool:
        """Whether it is not what it was; ``new_keys`` in dicts of the author's may be there."""
        held, contents = vars(module), self.contents
        if type(module) is not self.kind or held.keys() != self.attributes.keys():
            return True
        for key, value in self.attributes.items():
            if held[key] is not value:
                return True
            noted = value.__class__ in _CONTAINERS and (value or key in contents)
            if noted and not _same(value, contents.get(key), new_keys and key not in _OF_TORCH):
                return True
        return any(not _same(container, content, new_keys) for container, content in self.inner.values())

    def restore(self, module: nn.Module) -> None:
        module.__class__ = self.kind
        for key, value in self.attributes.items():
            if value.__class__ in _CONTAINERS:
                _fill(value, self.contents.get(key))
        for container, content in self.inner.values():
            _fill(container, content)
        vars(module).clear()
        vars(module).update(self.attributes)


def _note_inner(content: Any, noted: dict[int, tuple[Any, Any]]) -> None:
    """Containers inside one, and what they hold."""
    for item in content.values() if isinstance(content, dict) else content:
        if item.__class__ in _CONTAINERS and id(item) not in noted:
            noted[id(item)] = item, item.copy()
            _note_inner(item, noted)
        elif item.__class__ is tuple:
            _note_inner(item, noted)


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Whatever running the model stores on its modules or writes into their tensors is taken back.

    Parameters are not copied before each run. One that the run writes into is noted, for ``written_back`` to restore;
    from then on it is copied like a buffer.
    """
    snapshot = Snapshot(model)
    parameters = list(snapshot.parameters())
    known = [p for p in parameters if p in _written] if len(_written) else []
    held = [(t, t._version, t.detach().clone()) for t in (*snapshot.buffers(), *known) if not _is_lazy(t)]
    versions = [(p, p._version) for p in parameters]
    try:
        yield
    finally:
        snapshot.restore()
        for parameter, version in versions:
            if parameter._version != version:
                _written[parameter] = True
        with torch.no_grad():
            for tensor, version, value in held:
                if tensor._version != version:
                    tensor.copy_(value)


def written_back(parameters: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Give the parameters that a run wrote into the values of their originals: pairs of a copy's and its source's."""
    if not len(_written):
        return
    with torch.no_grad():
        for parameter, original in parameters:
            if parameter in _written:
                parameter.copy_(original)


def _same(now: Any, then: Any, new_keys: bool = False) -> bool:
    """Whether a container holds the same objects in the same places; ``then`` is None where it was empty."""
    if isinstance(now, dict):
        then = then or {}
        fits = len(now) == len(then) or (new_keys and len(now) > len(then))
        return fits and all(key in now and now[key] is value for key, value in then.items())
    if then is None or len(now) != len(then):
        return False
    if isinstance(now, list | deque):
        return all(a is b for a, b in zip(now, then, strict=True))
    return bool(now == then)


def _fill(container: Any, content: Any) -> None:
    container.clear()
    if isinstance(container, list | deque):
        container.extend(content or ())
    else:
        container.update(content or ())


def _is_lazy(tensor: Tensor) -> bool:
    return type(tensor).__name__.startswith("Uninitialized")
