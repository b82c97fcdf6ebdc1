"""Small dataflow patterns, declared by writing the code that they match."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import fx

from surgery.names import changes_input, of_node

COMMUTATIVE = {"add", "mul"}
# Arguments that choose a variant of the same operation and do not matter to a match.
IGNORED = {"inplace", "approximate"}


@dataclass(frozen=True)
class Match:
    """One place in a graph: the node whose value the pattern computes, and what its variables stand for.

    Where the model was run, ``node.meta["example"]`` of a node is its value in that run as a fake tensor: a shape and a
    dtype without data.
    """

    root: fx.Node
    variables: tuple[fx.Node, ...]


class CallPattern:
    """Matches every call of one function, by its canonical name, whatever the arguments; the rule looks at them."""

    def __init__(self, *names: str) -> None:
        self.names = frozenset(names)

    @property
    def alternatives(self) -> tuple[frozenset[str], ...]:
        """Sets of operations, of which one has to be there in full."""
        return tuple(frozenset([name]) for name in self.names)

    def matches(self, graph: fx.Graph) -> Iterator[Match]:
        """All calls, in order; ``variables`` are the tensors among the arguments."""
        for node in graph.nodes:
            if node.op in {"call_function", "call_method"} and of_node(node) in self.names:
                yield Match(node, tuple(node.all_input_nodes))


class Pattern:
    """A function of tensors, traced once; its arguments are variables that match anything.

    ``Pattern(lambda x: x * torch.sigmoid(x))`` matches that product either way round, with sigmoid as a function,
    a method or a module. Numbers must be equal. The matched part may have one output; other users of a value inside
    it keep that value. A function that is not a lambda stands for a call of it with one tensor.
    """

    def __init__(self, snippet: Callable[..., Any]) -> None:
        written_out = getattr(snippet, "__name__", "") == "<lambda>"
        graph = fx.Tracer().trace(snippet if written_out else lambda x: snippet(x))
        self._variables = [node for node in graph.nodes if node.op == "placeholder"]
        self._root: fx.Node = next(node for node in graph.nodes if node.op == "output").args[0]

    @property
    def alternatives(self) -> tuple[frozenset[str], ...]:
        """Sets of operations, of which one has to be there in full: here one, of all that it is made of."""
        nodes = (of_node(node) for node in self._root.graph.nodes)
        return (frozenset(name for name in nodes if name),)

    def matches(self, graph: fx.Graph) -> Iterator[Match]:
        """All places of a graph where it stands, in order."""
        for node in graph.nodes:
            bound: dict[fx.Node, Any] = {}
            if self._matches(self._root, node, bound):
                yield Match(node, tuple(bound[variable] for variable in self._variables))

    def _matches(self, wanted: Any, found: Any, bound: dict[fx.Node, Any]) -> bool:
        if not isinstance(wanted, fx.Node):
            return bool(type(found) in {int, float} and found == wanted)
        if wanted in bound:
            return bound[wanted] is found
        if wanted.op == "placeholder":
            if isinstance(found, fx.Node):
                bound[wanted] = found
            return isinstance(found, fx.Node)
        if not isinstance(found, fx.Node) or of_node(found) != of_node(wanted):
            return False
        if wanted is not self._root and changes_input(found):
            return False  # what its input stands for is another value afterwards
        for arguments in _orders(found, of_node(wanted)):
            trial = dict(bound)
            if self._all_match(wanted.args, arguments, trial):
                bound.update(trial)
                bound[wanted] = found
                return True
        return False

    def _all_match(self, wanted: tuple[Any, ...], found: list[Any], bound: dict[fx.Node, Any]) -> bool:
        extra = found[len(wanted) :]
        if len(found) < len(wanted) or any(isinstance(item, fx.Node) for item in extra):
            return False
        return all(self._matches(w, f, bound) for w, f in zip(wanted, found, strict=False))


def _orders(node: fx.Node, operation: str | None) -> Iterator[list[Any]]:
    arguments = [*node.args, *(value for key, value in node.kwargs.items() if key not in IGNORED)]
    yield arguments
    if operation in COMMUTATIVE and len(arguments) == 2:
        yield arguments[::-1]
