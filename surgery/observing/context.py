"""Context managers of a forward, such as ``torch.no_grad()``: a traced graph has no blocks and would lose them."""

import dis
from collections.abc import Iterator
from functools import cache
from types import CodeType, FunctionType
from typing import Any

from torch import nn

# What changes the meaning of the calls inside: gradients, dtypes, random numbers.
SCOPES = frozenset({"no_grad", "enable_grad", "inference_mode", "set_grad_enabled", "set_grad", "autocast", "fork_rng"})


def scopes(module: nn.Module) -> list[str]:
    """Names of the context managers in a module's own forward and the functions that it reaches, sorted.

    Looks at bytecode, so nothing is run. Methods called on ``self``, ``super()``, functions of the same file and
    decorators are followed; child modules and torch itself are not.
    """
    kind: Any = type(module)
    return sorted(_of_kind(kind))


@cache
def _of_kind(kind: Any) -> frozenset[str]:
    found: set[str] = set()
    seen: set[CodeType] = set()
    todo: list[Any] = [kind.forward]
    while todo:
        function = todo.pop()
        found |= _of_decorator(function)
        if wrapped := getattr(function, "__wrapped__", None):
            todo.append(wrapped)
        if not isinstance(function, FunctionType) or function.__code__ in seen or _is_of_decorator(function):
            continue
        seen.add(function.__code__)
        for code in _with_nested(function.__code__):
            found |= SCOPES.intersection(code.co_names)
            todo += _reached(code, function, kind)
    return frozenset(found)


def _with_nested(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of the functions and comprehensions written inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_nested(constant)


def _reached(code: CodeType, function: FunctionType, kind: type[nn.Module]) -> Iterator[Any]:
    """Functions that a code calls: own methods, those of base classes, global ones."""
    names = set(code.co_names)
    if "super" in names:
        yield from (base.__dict__[function.__name__] for base in kind.__mro__ if function.__name__ in base.__dict__)
    candidates = [getattr(kind, name, None) for name in _attributes_of_self(code)]
    candidates += [function.__globals__.get(name) for name in _globals(code)]
    for candidate in candidates:
        if isinstance(candidate, FunctionType) and str(candidate.__module__).partition(".")[0] != "torch":
            yield candidate


def _globals(code: CodeType) -> set[str]:
    instructions = dis.get_instructions(code)
    return {str(each.argval) for each in instructions if each.opname in {"LOAD_GLOBAL", "LOAD_NAME"}}


def _attributes_of_self(code: CodeType) -> Iterator[str]:
    before = None
    for instruction in dis.get_instructions(code):
        if before is not None and instruction.opname in {"LOAD_ATTR", "LOAD_METHOD"} and _loads_self(before, code):
            yield str(instruction.argval)
        before = instruction


def _loads_self(instruction: dis.Instruction, code: CodeType) -> bool:
    return instruction.opname.startswith("LOAD_FAST") and instruction.argval == next(iter(code.co_varnames), None)


def _is_of_decorator(function: FunctionType) -> bool:
    return function.__code__.co_filename.replace("\\", "/").rpartition("/site-packages/")[2].startswith("torch/")


def _of_decorator(function: Any) -> set[str]:
    """The scope that ``@torch.no_grad()`` and the like put around a function: the wrapper holds it in a cell."""
    held = [cell.cell_contents for cell in getattr(function, "__closure__", None) or () if _is_full(cell)]
    managers = [getattr(value, "__self__", value) for value in held]
    return {type(manager).__name__ for manager in managers if hasattr(type(manager), "__enter__")} & SCOPES


def _is_full(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # raises where it is empty
    except ValueError:
        return False
    return True
