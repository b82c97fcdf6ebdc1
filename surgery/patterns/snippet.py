"""What may be written inside a pattern's code, and how that code is traced."""

import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from torch import fx, nn

from surgery.errors import one_line
from surgery.observing.names import behaves_as, is_named

_CONSTANT = "constant"
_tracing: ContextVar["Snippet"] = ContextVar("pattern")


class AnyModule:
    """Stands for a call of a module of certain types; made by ``any_module``."""

    def __init__(self, kinds: tuple[Any, ...], name: str | None) -> None:
        self.kinds = kinds
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        snippet = _current()
        return snippet.create_proxy("call_module", snippet.leaf(self), args, kwargs)

    def accepts(self, module: nn.Module) -> bool:
        """Whether it is of one of the kinds; of any where none were given."""
        return not self.kinds or any(_is_of(module, kind) for kind in self.kinds)


def any_module(*kinds: type[nn.Module] | str | Callable[[nn.Module], bool], name: str | None = None) -> AnyModule:
    """A module of one of these types, dotted class names or predicates (none: any), to be called in a pattern's code.

    Subclasses count unless they changed ``forward``; a dotted name may be any under which the class can be imported.
    Under ``name`` the matched node is in ``Match.bound``.
    """
    return AnyModule(kinds, name)


def constant(name: str) -> Any:
    """Whatever number, tuple or string stands there; it is in ``Match.bound`` under this name.

    Named twice, it must be the same. Raises RuntimeError outside of a pattern's code.
    """
    return _current().constant(name)


def is_constant(node: fx.Node) -> bool:
    """Whether a placeholder of a pattern stands for a constant, not for a tensor."""
    return _CONSTANT in node.meta


class Snippet(fx.Tracer):
    """A function or module as a graph; the modules that it calls are leaves, wherever they come from.

    Raises TypeError where the code is nothing to call, ValueError where it does not compute one value of its arguments.
    """

    def __init__(self, code: Callable[..., Any] | nn.Module) -> None:
        super().__init__()
        if not callable(code):
            raise TypeError(f"a pattern is a function, a module or any_module(...), not a {type(code).__name__}")
        self.leaves: dict[str, nn.Module | AnyModule] = {}
        self._constants: dict[str, Any] = {}
        one_layer = isinstance(code, nn.Module) and self.is_leaf_module(code, "")
        token = _tracing.set(self)
        try:
            self.graph = self.trace((lambda x: code(x)) if one_layer else code)
        except Exception as error:  # the code is the user's
            raise ValueError(f"a pattern's code cannot be traced: {one_line(error)}") from error
        finally:
            _tracing.reset(token)
        output = next(node for node in self.graph.nodes if node.op == "output")
        value: Any = output.args[0]
        if not isinstance(value, fx.Node) or not value.op.startswith("call_"):
            raise ValueError("a pattern computes one value, by at least one call")
        self.value = value
        if idle := [node.name for node in self.graph.nodes if not node.users and node is not output]:
            raise ValueError(f"a pattern uses all that it names; its output does not depend on {', '.join(idle)}")

    def path_of_module(self, mod: nn.Module) -> str:
        """A new name for each call."""
        return self.leaf(mod)

    def leaf(self, module: nn.Module | AnyModule) -> str:
        """Note a module that is called."""
        name = f"leaf_{len(self.leaves)}"
        self.leaves[name] = module
        return name

    def constant(self, name: str) -> Any:
        """The one placeholder of that constant."""
        if name not in self._constants:
            self._constants[name] = self.create_proxy("placeholder", name, (), {})
            self._constants[name].node.meta[_CONSTANT] = True
        return self._constants[name]


def _is_of(module: nn.Module, kind: Any) -> bool:
    if isinstance(kind, str):
        found = class_of(kind)
        return is_named(module, (kind,)) or (found is not None and behaves_as(module, found))
    return behaves_as(module, kind) if isinstance(kind, type) else bool(kind(module))


def class_of(name: str) -> type[nn.Module] | None:
    """The class of modules that a dotted name leads to, as far as it is imported: ``torch.nn.ReLU`` without modules."""
    parts = name.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        if (package := sys.modules.get(".".join(parts[:depth]))) is None:
            continue
        found: Any = package
        for part in parts[depth:]:
            found = getattr(found, "__dict__", {}).get(part)  # getattr might import what is not imported yet
        return found if isinstance(found, type) and issubclass(found, nn.Module) else None
    return None


def _current() -> Snippet:
    try:
        return _tracing.get()
    except LookupError:
        raise RuntimeError("constant() and any_module()(...) belong inside the code of a Pattern") from None
