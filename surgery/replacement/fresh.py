"""A new module for each site, made of what a replacement dictionary names; and the call that takes a site's place."""

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from torch import fx, nn

from surgery.observing.names import canonical
from surgery.operating.rewrite import call_new_module, new_modules
from surgery.patterns.arguments import arguments
from surgery.rule import Decline

_PLAIN = (bool, int, float, str, tuple, list, type(None))
# What a new layer does not take over: it starts as its own constructor wants.
_OWN = {"training", "inplace", "device", "dtype"}


def is_replacement(value: Any) -> bool:
    """Whether a value is a module or a type of modules."""
    return isinstance(value, nn.Module) or (isinstance(value, type) and issubclass(value, nn.Module))


def fresh(value: nn.Module | type[nn.Module], given: Mapping[str, Any], source: str) -> nn.Module:
    """A copy of an instance; or a type called with those of ``given`` that its constructor names.

    Raises TypeError where the constructor needs more than that.
    """
    if isinstance(value, nn.Module):
        return deepcopy(value)
    parameters = inspect.signature(value).parameters
    taken = {name: given[name] for name in parameters if name in given}
    missing = [
        name
        for name, parameter in parameters.items()
        if name not in taken
        and parameter.default is parameter.empty
        and parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}
    ]
    if missing:
        raise TypeError(
            f"{value.__name__} needs {', '.join(missing)}, which {source} does not say; give an instance or a factory"
        )
    return value(**taken)


def settings_of(module: nn.Module) -> dict[str, Any]:
    """What a module's constructor was told, as far as its attributes say."""
    found = {k: v for k, v in vars(module).items() if isinstance(v, _PLAIN) and not k.startswith("_") and k not in _OWN}
    if "bias" in module._parameters:
        found["bias"] = module._parameters["bias"] is not None
    return found


def call_of(
    value: Any, graph: fx.Graph, site: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> fx.Node | Decline:
    """A call of a function with these arguments, or of a new module with the tensors among them."""
    if not is_replacement(value):
        if reason := _why_not(value, args, kwargs):
            return Decline(reason)
        return graph.call_function(value, args, dict(kwargs))
    given = {k: v for k, v in arguments(site).items() if not _nodes(v) and k not in _OWN}
    try:
        module = fresh(value, given, canonical(site.target) if callable(site.target) else str(site.target))
    except TypeError as error:
        return Decline(str(error))
    _place_like_owner(module, graph.owning_module)
    name = _free_name(graph, type(module).__name__.lower())
    return call_new_module(graph, name, module, tuple(a for a in (*args, *kwargs.values()) if _nodes(a)))


def _why_not(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # most builtins have none: running will tell
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        return f"{canonical(function)} does not take the arguments of the call: {error}"
    return None


def _free_name(graph: fx.Graph, kind: str) -> str:
    """By count, so that a site has the same name in the graphs of train and of eval mode."""
    owner = graph.owning_module
    count = 0
    while (name := f"lite_{kind}_{count}") in new_modules(graph) or (owner is not None and name in owner._modules):
        count += 1
    return name


def _place_like_owner(module: nn.Module, owner: nn.Module | None) -> None:
    like = next((p for p in owner.parameters() if p.is_floating_point()), None) if owner is not None else None
    if like is not None:
        module.to(device=like.device, dtype=like.dtype)


def _nodes(value: Any) -> list[fx.Node]:
    found: list[fx.Node] = []
    fx.node.map_arg(value, found.append)
    return found
