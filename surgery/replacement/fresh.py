"""A new module for each site, made of what a replacement dictionary names; and the call that takes a site's place."""

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import cache
from typing import Any

from torch import Tensor, fx, nn

from surgery.observing.names import canonical
from surgery.observing.shapes import example
from surgery.operating.rewrite import call_new_module, new_modules
from surgery.patterns.arguments import arguments, nodes_in
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


def call_of_function(function: Callable[..., Any], graph: fx.Graph, args: tuple[Any, ...], kwargs: Any) -> fx.Node:
    """A call of any callable; of a tensor's method as one, because that can be traced again."""
    method = getattr(function, "__name__", "")
    if getattr(Tensor, method, None) is function:
        return graph.call_method(method, args, kwargs)
    return graph.call_function(_named(function), args, kwargs)


def call_of_module(
    value: nn.Module | type[nn.Module], graph: fx.Graph, site: fx.Node, inputs: tuple[Any, ...], like: Tensor | None
) -> fx.Node | Decline:
    """A call of a new module, with the data type and the device of the site's values, or else those of ``like``."""
    given = {k: v for k, v in arguments(site).items() if not nodes_in(v) and k not in _OWN}
    try:
        module = fresh(value, given, canonical(site.target) if callable(site.target) else str(site.target))
    except TypeError as error:
        return Decline(str(error))
    examples = [example(node) for node in (site, *(node for value in inputs for node in nodes_in(value)))]
    place = next((x for x in examples if isinstance(x, Tensor) and x.is_floating_point()), like)
    if place is not None:
        module.to(device=place.device, dtype=place.dtype)
    name = _free_name(graph, type(module).__name__.lower())
    return call_new_module(graph, name, module, inputs)


@cache
def _named(function: Callable[..., Any]) -> Callable[..., Any]:
    """With a name that can be written in code, which a partial, a lambda and a callable object lack."""
    if getattr(function, "__name__", "<").isidentifier():
        return function

    def called(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    inner = getattr(function, "func", function)
    called.__name__ = "".join(filter(str.isidentifier, getattr(inner, "__name__", type(inner).__name__)))
    called.__qualname__ = called.__name__
    return called


def _free_name(graph: fx.Graph, kind: str) -> str:
    """By count, so that a site has the same name in the graphs of train and of eval mode."""
    owner = graph.owning_module
    count = 0
    while (name := f"lite_{kind}_{count}") in new_modules(graph) or (owner is not None and name in owner._modules):
        count += 1
    return name
