"""What a forward reads of a layer inside of it besides calling it, by how it is written: ``self.conv.weight``."""

import dis
from collections.abc import Iterator
from functools import cache
from types import CodeType
from typing import Any

from torch import nn

from surgery.observing.forward import FORWARD
from surgery.observing.nesting import outer_names

Chain = tuple[str, ...]

# What a tensor tells that stays as it is where another layer takes the place of the one that holds it.
_SAME = (["dtype"], ["device"])


def attribute_reads(model: nn.Module, site: str) -> Iterator[tuple[str, Chain]]:
    """Modules around a site, and what the module's own forward reads of the layer there: an attribute, one of that."""
    for outer in outer_names(site):
        path = tuple((site.removeprefix(f"{outer}.") if outer else site).split("."))
        kind: Any = type(model.get_submodule(outer))
        for chain in _chains(kind):
            if len(chain) > len(path) and chain[: len(path)] == path:
                yield outer, chain[len(path) :]


def missed(model: nn.Module, site: str, old: nn.Module, new: nn.Module, ran: bool) -> str | None:
    """Why a layer has to stay: a forward around it reads what the new one does not have.

    Its parameters are taken to be others in the new layer, where no run of the model (``ran``) would show it.
    """
    for outer, (name, *rest) in attribute_reads(model, site):
        where = f"the forward of {outer or 'the model'} reads its {name}"
        if hasattr(old, name) and not hasattr(new, name):
            return f"{where}, which a {type(new).__name__} does not have"
        same = rest[-1:] in _SAME or new._parameters.get(name) is old._parameters.get(name)
        if not ran and not same:
            return f"{where}, which would be another"
    return None


@cache
def _chains(kind: Any) -> frozenset[Chain]:
    """Names of attributes read one after the other, in a class's forward and in the methods that it calls."""
    found: set[Chain] = set()
    todo, done = ["forward", *FORWARD.values()], set[str]()
    while todo:
        name = todo.pop()
        code = getattr(getattr(kind, name, None), "__code__", None)
        if name in done or code is None:
            continue
        done.add(name)
        for each in _with_inner(code):
            found.update(_of_code(each))
            todo += each.co_names
    return frozenset(found)


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_inner(constant)


def _of_code(code: CodeType) -> Iterator[Chain]:
    """``self.layers[0].weight`` reads ("layers", "0", "weight")."""
    chain: Chain = ()
    index: Any = None
    for step in dis.get_instructions(code):
        if step.opname in {"LOAD_ATTR", "LOAD_METHOD"}:
            chain = (*chain, str(step.argval))
        elif chain and step.opname in {"LOAD_CONST", "LOAD_SMALL_INT"}:
            index = step.argval
        elif chain and index is not None and (step.opname == "BINARY_SUBSCR" or step.argrepr == "[]"):
            chain, index = (*chain, str(index)), None
        elif chain:
            yield chain
            chain, index = (), None
