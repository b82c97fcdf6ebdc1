"""The functions that a module's own forward reaches, told from bytecode and attributes: nothing is run."""

import dis
import sys
from collections.abc import Iterator
from functools import cache, partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

from torch import nn

from surgery.observing.forward import FORWARD

# What their functions are made of is no business of a forward; layers of surgery are what its rules wanted.
_FOREIGN = frozenset({"torch", "numpy", "surgery", *sys.stdlib_module_names})


def reached(module: nn.Module) -> Iterator[Any]:
    """The forward itself, then each function that it may call; those of torch and of Python are not looked into.

    Followed are methods, also of children and other objects, ``super()``, global functions, those of imported files,
    what decorators wrap, and functions that attributes and globals hold, alone or in a list or dict. A child that is
    called as a module is not.
    """
    kind: Any = type(module)
    forwards = (kind.forward, *(getattr(kind, name) for name in FORWARD.values() if hasattr(kind, name)))
    todo: list[tuple[Any, Any]] = [(forward, module) for forward in forwards]
    seen: set[tuple[Any, int]] = set()
    while todo:
        function, owner = todo.pop()
        key = getattr(function, "__code__", function), id(owner)
        if key in seen:
            continue
        seen.add(key)
        yield function
        if wrapped := getattr(function, "__wrapped__", None):
            todo += _functions_in(wrapped, owner)
        if is_looked_into(function):
            for code in with_nested(function.__code__):
                todo += _called(code, function, owner)


def is_looked_into(function: Any) -> bool:
    """Whether it is a layer's or somebody's own code, not a function of torch or Python or a decorator of these."""
    if not isinstance(function, FunctionType):
        return False
    module = str(function.__module__)
    if module.startswith("torch.nn.modules.") and module != nn.Module.__module__:
        return True
    if module.partition(".")[0] in _FOREIGN and function.__name__ != "forward":
        return False
    file = function.__code__.co_filename.replace("\\", "/")
    return not file.rpartition("/site-packages/")[2].startswith("torch/")


def with_nested(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of the functions and comprehensions written inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from with_nested(constant)


def _called(code: CodeType, function: FunctionType, owner: Any) -> Iterator[tuple[Any, Any]]:
    """Functions that a code loads, each with what its first argument is; a plain function may be given the owner."""
    if "super" in code.co_names:
        bases = type(owner).__mro__
        yield from ((vars(b)[function.__name__], owner) for b in bases if function.__name__ in vars(b))
    for is_local, names in _loads(code):
        holder, value = owner, _root(names[0], is_local, code, function, owner)
        for name in names[1:]:
            holder, value = value, _attribute(value, name)
        yield from _functions_in(value, holder if isinstance(holder, nn.Module) else owner)


@cache
def _loads(code: CodeType) -> tuple[tuple[bool, tuple[str, ...]], ...]:
    """Names that are loaded one from the other, as ``("self", "act")``, and whether the first one is local."""
    found: dict[tuple[bool, tuple[str, ...]], None] = {}
    is_local = False
    names: tuple[str, ...] = ()
    for instruction in dis.get_instructions(code):
        operation, argument = instruction.opname, instruction.argval
        if operation in {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF"} or "LOAD_FAST" in operation:
            last = argument[-1] if isinstance(argument, tuple) else argument  # two are loaded at once from Python 3.13
            is_local, names = "LOAD_FAST" in operation, (last,)
        elif operation in {"LOAD_ATTR", "LOAD_METHOD"} and names:
            names = (*names, argument)
        else:
            names = ()
        if names:
            found[is_local, names] = None
    return tuple(found)


def _root(name: str, is_local: bool, code: CodeType, function: FunctionType, owner: Any) -> Any:
    if name == next(iter(function.__code__.co_varnames), None):  # also where a function written inside reads it
        return owner
    if is_local:
        return None
    if name in function.__code__.co_freevars:
        return contents((function.__closure__ or ())[function.__code__.co_freevars.index(name)])
    return function.__globals__.get(name)


def contents(cell: Any) -> Any:
    """What a closure's cell holds; None where it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _attribute(value: Any, name: str) -> Any:
    """As ``getattr``, but no property is computed and nothing is imported."""
    if isinstance(value, nn.Module) and name in value._modules:
        return value._modules[name]
    held = {} if isinstance(value, type) else getattr(value, "__dict__", {})
    if name in held:
        return held[name]
    kinds = (value if isinstance(value, type) else type(value)).__mro__
    found = next((vars(kind)[name] for kind in kinds if name in vars(kind)), None)
    return found.fget if isinstance(found, property) else found


def _functions_in(value: Any, owner: Any) -> Iterator[tuple[Any, Any]]:
    """A function, or those in a list or dict, each with what its first argument is."""
    if isinstance(value, list | tuple | dict):
        items = value.values() if isinstance(value, dict) else value
        for item in items:
            if not isinstance(item, list | tuple | dict):
                yield from _functions_in(item, owner)
    elif isinstance(value, partial):
        yield from _functions_in(value.func, owner)
    elif isinstance(value, staticmethod | classmethod):
        yield value.__func__, owner
    elif isinstance(value, MethodType):
        yield value.__func__, value.__self__
    elif isinstance(value, FunctionType | BuiltinFunctionType):
        yield value, owner
    elif callable(value) and not isinstance(value, type | nn.Module):
        yield from ((vars(kind)["__call__"], value) for kind in type(value).__mro__[:1] if "__call__" in vars(kind))
