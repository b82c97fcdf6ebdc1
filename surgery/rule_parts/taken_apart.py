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
    """Of each method but the constructor: the attributes that it reads, and how often it takes something apart."""
    written = [base for base in kind.__mro__ if base is not object and not base.__module__.startswith("torch.")]
    for base in written:
        for name, member in vars(base).items():
            function: Any = member.fget if isinstance(member, property) else member
            if isinstance(function, FunctionType) and name != "__init__":
                steps = [i for code in _nested(function.__code__) for i in dis.get_instructions(code)]
                taken = sum(step.opname in _TAKES_APART for step in steps)
                yield {str(step.argval) for step in steps if _reads_attribute(step)}, taken


def _reads_attribute(step: dis.Instruction) -> bool:
    """Not where it is called on the spot, ``self.layers(x)``: Python loads that in another way."""
    return step.opname == "LOAD_ATTR" and "NULL|self" not in step.argrepr


def _nested(code: CodeType) -> Iterator[CodeType]:
    """The code, and that of comprehensions and functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)
