"""Whether somebody's code may index or iterate over a container, rather than call it as a whole."""

import dis
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

from torch import nn

_TAKES_APART = {"BINARY_SUBSCR", "BINARY_SLICE", "GET_ITER", "UNPACK_SEQUENCE", "UNPACK_EX"}


def may_be_taken_apart(model: nn.Module, name: str) -> bool:
    """Whether code of a module around the one of that name mentions it and takes something apart.

    A container inside lists of an attribute, ``self.stages[0]``, takes one step more for each of them to reach. What
    is looked up by a computed name is not seen.
    """
    path = name.split(".") if name else []
    for at, key in enumerate(path):
        owner = model.get_submodule(".".join(path[:at]))
        steps = len(path) - at - 1  # of lists between the attribute and the container
        if any(key in names and taken > steps for names, taken in _methods(type(owner))):
            return True
    return False


def _methods(kind: type[nn.Module]) -> Iterator[tuple[set[str], int]]:
    """Of each method but the constructor: the names in it, and how often it takes something apart."""
    written = [base for base in kind.__mro__ if base is not object and not base.__module__.startswith("torch.")]
    for base in written:
        for name, member in vars(base).items():
            function: Any = member.fget if isinstance(member, property) else member
            if isinstance(function, FunctionType) and name != "__init__":
                codes = list(_nested(function.__code__))
                taken = sum(i.opname in _TAKES_APART for code in codes for i in dis.get_instructions(code))
                yield {name for code in codes for name in code.co_names}, taken


def _nested(code: CodeType) -> Iterator[CodeType]:
    """The code, and that of comprehensions and functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)
