"""The arguments of one call as another function takes them."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, fx

from surgery.observing.names import canonical
from surgery.observing.shapes import example
from surgery.patterns.arguments import NUMBERS_APART, binds, equal, nodes_in, signatures

# Settings that choose a variant or the mode of the same operation: left out where the other function has none.
_VARIANTS = {"inplace", "training", "approximate", "_stacklevel"}
# Tensors that belong to a layer rather than being its input.
_OF_A_LAYER = {"weight", "bias", "running_mean", "running_var"}

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def carried(function: Callable[..., Any], call: fx.Node) -> Arguments | str:
    """Arguments of a call for another function, never inplace; or why that does not take them.

    What tracing spelled out and is the old function's default may be left out, and a setting may be passed by its name
    or in its place, whichever the other function takes.
    """
    taking = signatures(function)
    kwargs = {key: value for key, value in call.kwargs.items() if key != "inplace"}
    args = call.args if any(map(_varies, taking)) else _gathered(call)
    if not taking:
        return args, kwargs  # running will tell
    for signature in taking:
        for way in _ways(args, kwargs, call, signature):
            if binds(signature, *way):
                return way
    name = getattr(function, "__name__", type(function).__name__)
    given = ", ".join([*map(str, args), *(f"{key}={value}" for key, value in kwargs.items())])
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
    found = ((source, _named(source, args, kwargs)) for source in signatures(call.target) if not _varies(source))
    source, known = next((pair for pair in found if pair[1]), (None, None))
    if source is None or known is None:
        yield args, kwargs
        return
    if not _misplaced(args, source, taking):
        yield args, kwargs
    needed = {k: v for k, (v, is_default) in known.items() if not (is_default or k in _VARIANTS)}
    first, *_ = known
    settings = {k: v for k, (v, _) in known.items() if k != first and (k in needed or k in taking.parameters)}
    yield (known[first][0],), settings
    in_order = tuple(known[name][0] for name in list(known)[: 1 + max(map(list(known).index, needed), default=0)])
    if not _misplaced(in_order, source, taking):
        yield in_order, {}


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
    return equal(value, default) or (value is None and default == [])


def _misplaced(args: tuple[Any, ...], source: inspect.Signature, taking: inspect.Signature) -> bool:
    """Whether a setting would go where another one belongs: max_pool2d's dilation to avg_pool2d's ceil_mode."""
    ours, theirs = tuple(source.parameters), tuple(taking.parameters)
    pairs = [(own, other) for own, other, value in zip(ours, theirs, args, strict=False) if not nodes_in(value)]
    return any(own != other and (own in theirs or other in {*ours, *_VARIANTS}) for own, other in pairs)


def _varies(signature: inspect.Signature) -> bool:
    return any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())


def _gathered(call: fx.Node) -> tuple[Any, ...]:
    """Numbers that a tensor method takes one by one as the one sequence that functions take."""
    if call.op != "call_method" or canonical(call.target) not in NUMBERS_APART or len(call.args) < 2:
        return call.args
    first = example(call.args[1])
    one_by_one = len(call.args) > 2 or (isinstance(first, int) and not isinstance(first, Tensor))
    return (call.args[0], tuple(call.args[1:])) if one_by_one else call.args
