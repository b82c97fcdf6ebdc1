"""Operations that a module's own forward may call, by how it is written; for a model that is not run."""

from weakref import WeakKeyDictionary

from torch import nn

from surgery.observing.names import canonical
from surgery.observing.reached import is_looked_into, reached, with_nested

# Written as symbols, so any forward may have them.
_OPERATORS = frozenset({"add", "sub", "mul", "div", "neg", "pow", "matmul"})
# By module, with the class that it had: surgery asks again after each change, and rewriting changes the class.
_known: WeakKeyDictionary[nn.Module, tuple[type[nn.Module], frozenset[str]]] = WeakKeyDictionary()


def written_names(module: nn.Module) -> frozenset[str]:
    """Names of all that the code of its forward mentions, and that of the functions it reaches; and the operators."""
    kind, names = _known.get(module, (None, frozenset[str]()))
    if kind is not type(module):
        names = frozenset(_mentioned(module)) | _OPERATORS
        _known[module] = type(module), names
    return names


def _mentioned(module: nn.Module) -> set[str]:
    found: set[str] = set()
    for function in reached(module):
        if is_looked_into(function):
            codes = with_nested(function.__code__)
            found |= {canonical(name) for code in codes for name in code.co_names}
        else:
            found.add(canonical(function))
    return found
