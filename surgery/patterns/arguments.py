"""The arguments of a call by name, however they are written: positional or keyword, defaults left out or not."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from surgery.observing.names import REFLECTED, canonical, of_node

# Tensor methods that take a sequence of numbers also as that many arguments.
NUMBERS_APART = {"view", "reshape", "permute", "expand", "repeat", "flip", "tile"}

# Arguments that name dimensions, which -1 may count from the end.
_DIMENSIONS = {"dim", "dims", "axis", "dim0", "dim1", "start_dim", "end_dim"}

# Arguments that only the functions of torch.nn.functional have.
_NOT_IN_ATEN = {"return_indices", "inplace", "_stacklevel"}


def bound_together(
    wanted: fx.Node, found: fx.Node, module: nn.Module | None = None, defaults: bool = True
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Arguments of two calls of one operation, by name under each signature that takes both.

    ``module`` is what ``found`` calls where it calls one: its attributes count as arguments. With ``defaults`` what is
    left out has the signature's value. Calls that no signature takes are told by position.
    """
    taken = False
    for signature in _signatures(wanted, found):
        first = _bound(signature, _operands(wanted), wanted.kwargs, defaults)
        second = _bound(signature, _operands(found), {**_settings(module, signature), **found.kwargs}, defaults)
        if first is not None and second is not None:
            taken = True
            yield first, second
    if not taken:
        yield _by_position(wanted), _by_position(found)


def signatures(function: Any) -> tuple[inspect.Signature, ...]:
    """How a function or a tensor method may be called; none where nothing is known of it."""
    if isinstance(function, str):
        return _of_aten(canonical(function))
    try:
        own = inspect.signature(function)
    except (TypeError, ValueError):  # builtins of torch
        return _of_aten(canonical(function))
    behind = getattr(functional, f"_{canonical(function)}", None)  # what max_pool2d(*args, **kwargs) stands for
    varies = any(p.kind is p.VAR_POSITIONAL for p in own.parameters.values())
    return (inspect.signature(behind),) if behind and varies and function.__module__ == functional.__name__ else (own,)


def binds(signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a function of that signature takes these arguments."""
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def nodes_in(value: Any) -> list[fx.Node]:
    """The nodes in a nested argument."""
    found: list[fx.Node] = []
    fx.node.map_arg(value, found.append)
    return found


def is_sequence(value: Any) -> bool:
    """A list or a tuple."""
    return isinstance(value, list | tuple)


def items_of(wanted: Any, found: Any) -> tuple[Sequence[Any], Sequence[Any]] | None:
    """What has to match pair by pair in two sequences of one length, or in two slices; None for other values."""
    if isinstance(wanted, slice) and isinstance(found, slice):
        return _in_full(wanted), _in_full(found)
    both = is_sequence(wanted) and is_sequence(found) and len(found) == len(wanted)
    return (wanted, found) if both else None


def _in_full(value: slice) -> tuple[Any, ...]:
    return 0 if value.start is None else value.start, value.stop, 1 if value.step is None else value.step


def counted_alike(name: str, wanted: Any, found: Any, rank: int | None) -> tuple[Any, Any]:
    """Two values of an argument; dimensions such as -1 as they are for a tensor of that rank, where it is known."""
    if rank is None or name not in _DIMENSIONS or nodes_in(wanted):
        return wanted, found
    return _from_the_front(wanted, rank), _from_the_front(found, rank)


def _from_the_front(value: Any, rank: int) -> Any:
    if is_sequence(value):
        return tuple(_from_the_front(item, rank) for item in value)
    return value + rank if type(value) is int and -rank <= value < 0 else value


def equal(wanted: Any, found: Any) -> bool:
    """Equal as settings: 6 is 6.0, a list is a tuple, one number stands for that many, but True is not 1."""
    if isinstance(wanted, fx.Node) or isinstance(found, fx.Node):
        return wanted is found
    if is_sequence(wanted) and is_sequence(found):
        return len(wanted) == len(found) and all(map(equal, wanted, found))
    if is_sequence(wanted) or is_sequence(found):
        many, one = (wanted, found) if is_sequence(wanted) else (found, wanted)
        return len(many) > 0 and isinstance(one, int | float) and all(equal(item, one) for item in many)
    return isinstance(wanted, bool) is isinstance(found, bool) and bool(wanted == found)


def operation(node: fx.Node) -> str | None:
    """The operation of a node, of which a reflected one is another spelling: ``rsub(x, 1)`` is ``1 - x``."""
    name = of_node(node)
    return REFLECTED.get(str(name), name) if len(node.args) >= 2 else name


def _operands(node: fx.Node) -> tuple[Any, ...]:
    """Positional arguments in the order of the plain operation."""
    swapped = len(node.args) >= 2 and of_node(node) in REFLECTED
    return (node.args[1], node.args[0], *node.args[2:]) if swapped else node.args


def arguments(node: fx.Node) -> Mapping[str, Any]:
    """Arguments of one call by name, without defaults; by position where no signature takes it."""
    for signature in _signatures(node, node):
        if (found := _bound(signature, node.args, node.kwargs, False)) is not None:
            return found
    return _by_position(node)


def _signatures(*calls: fx.Node) -> Iterator[inspect.Signature]:
    for call in dict.fromkeys(calls):
        if call.op == "call_function" and (own := _of_python(call.target)):
            yield own
    name = canonical(calls[0].target)
    yield from _of_aten(REFLECTED.get(name, name))


@cache
def _of_python(function: Any) -> inspect.Signature | None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # most builtins have none
        return None
    varying = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    if any(p.kind in varying for p in signature.parameters.values()):
        return None
    return signature if inspect.isfunction(function) else None


@cache
def _of_aten(name: str) -> tuple[inspect.Signature, ...]:
    packet = getattr(torch.ops.aten, name, None)
    if packet is None:
        return ()
    schemas = [getattr(packet, overload)._schema for overload in packet.overloads()]
    return tuple(_as_signature(s) for s in schemas if not any(a.is_out for a in s.arguments))


def _as_signature(schema: Any) -> inspect.Signature:
    parameters = []
    for argument in schema.arguments:
        kind = inspect.Parameter.KEYWORD_ONLY if argument.kwarg_only else inspect.Parameter.POSITIONAL_OR_KEYWORD
        default = argument.default_value if argument.has_default_value() else inspect.Parameter.empty
        name = "input" if argument.name == "self" else argument.name
        parameters.append(inspect.Parameter(name, kind, default=default))
    try:
        return inspect.Signature(parameters)
    except ValueError:  # a default before an argument without one
        return inspect.Signature([p.replace(default=inspect.Parameter.empty) for p in parameters])


def _bound(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any], defaults: bool
) -> Mapping[str, Any] | None:
    kwargs = {k: v for k, v in kwargs.items() if k in signature.parameters or k not in _NOT_IN_ATEN}
    try:
        bound = signature.bind(*args, **kwargs) if defaults else signature.bind_partial(*args, **kwargs)
    except TypeError:
        return None
    if defaults:
        bound.apply_defaults()
    return bound.arguments


def _settings(module: nn.Module | None, signature: inspect.Signature) -> Mapping[str, Any]:
    return {} if module is None else {name: vars(module)[name] for name in signature.parameters if name in vars(module)}


def _by_position(node: fx.Node) -> Mapping[str, Any]:
    args = _operands(node)
    apart = node.op == "call_method" and node.target in NUMBERS_APART
    if apart and len(args) == 2 and is_sequence(args[1]):
        args = (args[0], *args[1])
    return {**{str(i): value for i, value in enumerate(args)}, **node.kwargs}
