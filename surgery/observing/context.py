"""Context managers of a forward, such as ``torch.no_grad()``: a traced graph has no blocks and would lose them."""

from typing import Any

from torch import nn

from surgery.observing.reached import contents, is_looked_into, reached, with_nested

# What changes the meaning of the calls inside: gradients, dtypes, random numbers.
SCOPES = frozenset({"no_grad", "enable_grad", "inference_mode", "set_grad_enabled", "set_grad", "autocast", "fork_rng"})


def scopes(module: nn.Module) -> list[str]:
    """Names of the context managers in a module's own forward and the functions that it reaches, sorted.

    Looks at bytecode, so nothing is run. What child modules do when they are called is their own.
    """
    found: set[str] = set()
    for function in reached(module):
        found |= _of_decorator(function)
        if is_looked_into(function):
            for code in with_nested(function.__code__):
                found |= SCOPES.intersection(code.co_names)
    return sorted(found)


def _of_decorator(function: Any) -> set[str]:
    """The scope that ``@torch.no_grad()`` and the like put around a function: the wrapper holds it in a cell."""
    held = [contents(cell) for cell in getattr(function, "__closure__", None) or ()]
    managers = [getattr(value, "__self__", value) for value in held]
    return {type(manager).__name__ for manager in managers if hasattr(type(manager), "__enter__")} & SCOPES
