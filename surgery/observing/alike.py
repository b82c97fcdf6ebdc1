"""Whether two modules run the same code on the same settings, so that a graph of one is a graph of the other."""

from collections.abc import Hashable, Mapping
from typing import Any

from torch import Tensor, nn

from surgery.observing.observe import ModuleRun, device_of

_TORCH = frozenset(vars(nn.Module())) - {"training"}  # what every module has: tensors, children, hooks


def key(module: nn.Module, run: ModuleRun | None) -> Hashable:
    """Equal for modules of one class with equal settings and children, called with equal shapes and settings.

    What is neither a setting nor a tensor has to be the same object.
    """
    places: dict[int, int] = {}
    called = None if run is None else (_of_value(run.args), _of_value(run.kwargs), run.count == 1)
    return _of_module(module, places), called


def _of_module(module: nn.Module, places: dict[int, int]) -> Hashable:
    """``places`` tell what is the same object within the module: a layer called twice, tied weights."""
    if id(module) in places:
        return "again", places[id(module)]
    places[id(module)] = len(places)
    own = tuple((name, _of_value(value)) for name, value in vars(module).items() if name not in _TORCH)
    tensors = tuple(
        (name, _of_value(value), places.setdefault(id(value), len(places)))
        for held in (module._parameters, module._buffers)
        for name, value in held.items()
    )
    children = tuple((name, child and _of_module(child, places)) for name, child in module._modules.items())
    kind: Any = type(module)
    return kind, own, tensors, children


def _of_value(value: Any) -> Hashable:
    if isinstance(value, Tensor):
        return "tensor", tuple(value.shape), value.dtype, device_of(value), value.requires_grad
    if isinstance(value, bool | int | float | str | None):
        return type(value), value
    if isinstance(value, list | tuple):
        return type(value), tuple(map(_of_value, value))
    if isinstance(value, Mapping):
        return type(value), tuple((name, _of_value(item)) for name, item in value.items())
    return "object", id(value)
