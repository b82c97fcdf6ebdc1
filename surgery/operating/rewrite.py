"""Give one module a rewritten forward and leave it its class, its methods and its children."""

from collections.abc import Sequence
from typing import Any, cast

from torch import fx, nn

from surgery.observing.forward import FORWARD
from surgery.observing.names import changes_input, of_node
from surgery.observing.trace import Traced, compiled

_BASE = "_surgery_base"
_CODE = "_surgery_code"


def install(module: nn.Module, traced: Traced) -> None:
    """Make the module run the graphs: eval or train by its own flag, as before.

    The module's class becomes a subclass of its own with another ``forward``; isinstance, methods, deepcopy and
    state_dict work as before. A GraphModule gets the eval graph. Raises ValueError where that would be wrong.
    """
    added = new_modules(traced.evaluate) | new_modules(traced.train)
    for name, child in added.items():
        module.add_module(name, child.train(module.training))
    train, train_source = _function(traced.train)
    evaluate, evaluate_source = _function(traced.evaluate)
    if isinstance(module, fx.GraphModule):
        if train_source != evaluate_source:
            raise ValueError("a GraphModule has one graph, and train and eval mode would need two")
        _install_graph(module, traced.evaluate)
        return
    if train_source == evaluate_source:
        forward, source = evaluate, evaluate_source
    else:
        forward, source = _by_mode, f"# train\n{train_source}\n# eval\n{evaluate_source}"
    base = original_class(type(module))
    members = {"forward": forward, "__module__": base.__module__, "__qualname__": base.__qualname__}
    members |= {"__doc__": base.__doc__, _BASE: base, _CODE: source}
    members |= {FORWARD[True]: train, FORWARD[False]: evaluate}
    module.__class__ = type(base.__name__, (base,), members)


def _install_graph(module: fx.GraphModule, graph: fx.Graph) -> None:
    """With a class of its own, because compiling sets ``forward`` on the class."""
    kind = type(module)
    members = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    module.__class__ = type(kind.__name__, kind.__bases__, members)
    module.graph = graph


def call_new_module(graph: fx.Graph, name: str, module: nn.Module, args: tuple[Any, ...]) -> fx.Node:
    """A call of a module that is not there yet: ``install`` adds it under that name.

    The graphs of train and eval mode share what has the same name. Raises ValueError where the name is taken.
    """
    owner = graph.owning_module
    if owner is not None and name in owner._modules and name not in new_modules(graph):
        raise ValueError(f"the module already has a child named {name!r}")
    new_modules(graph)[name] = module
    return graph.create_node("call_module", name, args)


def new_modules(graph: fx.Graph) -> dict[str, nn.Module]:
    """Modules that a rewritten graph calls and that its owner does not have yet."""
    return cast(dict[str, nn.Module], graph.__dict__.setdefault("_surgery_new_modules", {}))


def put_in_place(old: fx.Node, new: fx.Node, variables: Sequence[fx.Node]) -> None:
    """Let everybody who read ``old`` read ``new``, and erase ``old`` and what was computed for it alone.

    Nothing else is erased: a call whose value nobody reads may be there for what it does.
    """
    if changes_input(old):
        redirect_later_readers(old, new)
    old.replace_all_uses_with(new)
    _erase(old, variables)


def _erase(node: fx.Node, variables: Sequence[fx.Node]) -> None:
    inputs = node.all_input_nodes
    node.graph.erase_node(node)
    for other in inputs:
        if not other._erased and not other.users and other not in variables and other.op.startswith("call_"):
            _erase(other, variables)


def redirect_later_readers(inplace: fx.Node, new: fx.Node) -> None:
    """Whoever read the overwritten value after an inplace call saw its result: they read ``new`` now."""
    source = inplace.args[0]
    if isinstance(source, fx.Node):
        for user in list(source.users):
            if user is not inplace and user is not new and inplace < user and not user < new:
                user.replace_input_with(source, new)


# Calls whose value is another look at the same memory.
_VIEWS = frozenset(
    [
        *("getitem", "view", "reshape", "chunk", "split", "unbind", "narrow", "select", "transpose", "permute", "t"),
        *("flatten", "unflatten", "squeeze", "unsqueeze", "expand", "movedim", "swapaxes", "detach", "contiguous"),
    ]
)


def has_views(node: fx.Node) -> bool:
    """Whether a value is a view or is viewed: who writes into it writes into what others read."""
    return of_node(node) in _VIEWS or any(of_node(user) in _VIEWS for user in node.users)


def original_class(kind: type[nn.Module]) -> type[nn.Module]:
    """The class that the module's author wrote."""
    return cast(type[nn.Module], getattr(kind, _BASE, kind))


def rewritten_code(module: nn.Module) -> str | None:
    """Source of the rewritten forward, or None where surgery has not touched it; a GraphModule's own code."""
    if isinstance(module, fx.GraphModule):
        return module.code
    return cast(str | None, getattr(type(module), _CODE, None))


def _function(graph: fx.Graph) -> tuple[Any, str]:
    graph.lint()
    return compiled(graph)


def _by_mode(self: Any, *args: Any, **kwargs: Any) -> Any:
    return getattr(self, FORWARD[self.training])(*args, **kwargs)
