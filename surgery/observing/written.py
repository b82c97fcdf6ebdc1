"""Operations that a module's own forward may call, by how it is written; for a model that is not run."""

from torch import nn

from surgery.observing.forward import FORWARD
from surgery.observing.names import canonical

# Written as symbols, so any forward may have them.
_OPERATORS = frozenset({"add", "sub", "mul", "div", "neg", "pow", "matmul"})


def written_names(module: nn.Module) -> set[str]:
    """Names of all that the code mentions, and the operators."""
    kind = type(module)
    forwards = [kind.forward, *(getattr(kind, name) for name in FORWARD.values() if hasattr(kind, name))]
    codes = [forward.__code__ for forward in forwards if hasattr(forward, "__code__")]
    return {canonical(name) for code in codes for name in code.co_names} | _OPERATORS
