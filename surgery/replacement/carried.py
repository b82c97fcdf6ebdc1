"""The arguments of one call as another function takes them."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, fx

from surgery.observing.names import canonical
from surgery.observing.shapes import example
from surgery.patterns.arguments import NUMBERS_APART, nodes_in, signatures

# Settings that choose a variant or the mode of the same operation: left out where the other function has none.
_VARIANTS = {"inplace", "training", "approximate", "_stacklevel", "return_indices"}
# Tensors that belong to a layer rather than being its input.
_OF_A_LAYER = {"weight", "bias", "running_mean", "running_var"}

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def carried(function: Callable[..., Any], call: fx.Node) -> Arguments | str:
    """Arguments of a call for another function, never inplace; or why that does not take them.

    What tracing spelled out and is the old function's default may be left out, and a setting may be passed by its name
    or in its place, whichever the other function takes.
    """
    kwargs = {key: value for key, value in call.kwargs.items() if key != "inplace"}
    args = call.args if _takes_any_number(function) else _gathered(call)
    taking = signatures(function)
    if not taking:
        return args, kwargs  # running will tell
    for signature in taking:
        for way in _ways(args, kwargs, call, signature):
            if _binds(signature, way):
                return way
    name = getattr(function, "__name__", type(function).__name__)
    given = ", ".join([*(str(value) for value in args[1:] if not nodes_in(value)), *map("{0[0]}={0[1]}".format, kwargs.items())])
    return f"{name} does not take the arguments of the call: {canonical(call.target)}({given})"


def inputs(call: fx.Node) -> tuple[Any, ...]:
    """The tensors that a call works on, without the weights and statistics that it works with."""
    for signature in signatures(call.target):
        try:
            bound = signature.bind(*call.args, **call.kwargs)
        except TypeError:
            continue
        return tuple(v for name, v in bound.arguments.items() if name not in _OF_A_LAYER and nodes_in(v))
    return tuple(value for value in (*call.args, *call.kwargs.values()) if nodes_in(value))


def _ways(
    args: tuple[Any, ...], kwargs: dict[str, Any], call: fx.Node, taking: inspect.Signature
) -> Iterator[Arguments]:
    """Ways to write them, the most faithful first."""
    named = [_named(signature, args, kwargs) for signature in signatures(call.target)]
    known = next((found for found in named if found is not None), None)
    if known is None or not _misplaced(args, known, taking):
        yield args, kwargs
    if known is None:
        return
    kept = {k: v for k, (v, is_default) in known.items() if k in taking.parameters or not (is_default or k in _VARIANTS)}
    first, *_ = known
    yield tuple(v for k, v in kept.items() if k == first), {k: v for k, v in kept.items() if k != first}
    if not _misplaced(args, known, taking):
        values = [(v, is_default or k in _VARIANTS) for k, (v, is_default) in known.items()]
        while values and values[-1][1]:
            values.pop()
        yield tuple(value for value, _ in values), {}


def _named(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, tuple[Any, bool]] | None:
    """Each argument that was given, and whether it is what the function would take by itself."""
    try:
        bound = signature.bind(*args, **{k: v for k, v in kwargs.items() if k in signature.parameters})
    except TypeError:
        return None
    extra = {k: (v, False) for k, v in kwargs.items() if k not in signature.parameters}
    return {k: (v, _is_default(v, signature.parameters[k].default)) for k, v in bound.arguments.items()} | extra


def _is_default(value: Any, default: Any) -> bool:
    if nodes_in(value) or default is inspect.Parameter.empty:
        return False
    return bool(value == default) or (value is None and default == [])


def _misplaced(args: tuple[Any, ...], known: Mapping[str, Any], taking: inspect.Signature) -> bool:
    """Whether a setting would go to one with another name: max_pool2d's dilation to avg_pool2d's ceil_mode."""
    theirs = list(taking.parameters)
    both = zip(known, args, strict=False)
    return any(name in known and name != theirs[at : at + 1][0] for at, (name, _) in enumerate(both) if False)


def _binds(signature: inspect.Signature, way: Arguments) -> bool:
    try:
        signature.bind(*way[0], **way[1])
    except TypeError:
        return False
    return True


def _takes_any_number(function: Callable[..., Any]) -> bool:
    return any(p.kind is p.VAR_POSITIONAL for signature in signatures(function) for p in signature.parameters.values())


def _gathered(call: fx.Node) -> tuple[Any, ...]:
    """Numbers that a tensor method takes one by one as the one sequence that functions take."""
    if call.op != "call_method" or canonical(call.target) not in NUMBERS_APART or len(call.args) < 2:
        return call.args
    first = example(call.args[1])
    one_by_one = len(call.args) > 2 or (isinstance(first, int) and not isinstance(first, Tensor))
    return (call.args[0], tuple(call.args[1:])) if one_by_one else call.args
