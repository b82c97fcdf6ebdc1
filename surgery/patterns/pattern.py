"""Dataflow patterns, declared by writing the code that they match."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from torch import Tensor, fx, nn

from surgery.observing.names import behaves_as, canonical, changes_input, of_module, of_node, spellings
from surgery.observing.shapes import example
from surgery.patterns.arguments import bound_together, counted_alike, equal, items_of, nodes_in, operation
from surgery.patterns.snippet import AnyModule, Snippet, is_constant

COMMUTATIVE = {"add", "mul", "maximum", "minimum", "logical_and", "logical_or", "eq", "ne"}
# Arguments that choose a variant of the same operation and do not matter to a match.
IGNORED = {"inplace", "approximate"}

Bound = dict[fx.Node, Any]


@dataclass(frozen=True)
class Match:
    """One place in a graph: the node whose value the pattern computes, and what its variables stand for.

    Where the model was run, ``node.meta["example"]`` of a node is its value in that run as a fake tensor: a shape and a
    dtype without data.
    """

    root: fx.Node
    variables: tuple[fx.Node, ...]
    bound: Mapping[str, Any] = field(default_factory=dict)  # variables, constants and named modules by name
    calls: tuple[fx.Node, ...] = ()  # all matched calls in the pattern's order, the root last
    declined: Any = None  # what ``check`` said against it


Check = Callable[[Match], Any]


class CallPattern:
    """Matches every call of one function, by its canonical name, whatever the arguments; the rule looks at them."""

    def __init__(self, *names: str) -> None:
        self.names = frozenset(map(canonical, names))

    @property
    def alternatives(self) -> tuple[frozenset[str], ...]:
        """Sets of operations, of which one has to be there in full."""
        return tuple(frozenset([spelling]) for name in self.names for spelling in spellings(name))

    def matches(self, graph: fx.Graph) -> Iterator[Match]:
        """All calls, in order; ``variables`` are the tensors among the arguments."""
        for node in graph.nodes:
            if node.op in {"call_function", "call_method"} and of_node(node) in self.names:
                yield Match(node, tuple(node.all_input_nodes), calls=(node,))


class Pattern:
    """Code, traced once; its arguments are variables that match any tensor. One output, any dataflow before it.

    ``Pattern(lambda x: x * torch.sigmoid(x))`` matches that product either way round, with sigmoid as a function, a
    method or a module. Settings must be equal, however they are written; ``constant("k")`` in the code stands for any
    number, tuple or string, and ``any_module(nn.Conv2d)(x)`` for a call of any such module. A module, also one with
    others inside such as ``nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU())``, stands for modules of these types with
    whatever settings, and a function of torch for a call of it with one tensor and whatever settings. Other readers
    of a value inside a match keep that value.

    ``check`` is asked about each match: False passes it over, what is neither True nor False is why it is declined
    (``Match.declined``).

    This is not torch.fx's SubgraphMatcher, because that compares call targets by identity (``torch.add`` is not ``+``,
    ``x.sigmoid()`` is not ``torch.sigmoid(x)``) and modules by name, takes operands in one order, needs arguments to be
    written alike, and gives up where a value inside is read elsewhere.

    Raises TypeError where the code is nothing to call, ValueError where it cannot be traced or does not compute one
    value from all of its arguments.
    """

    def __init__(self, code: Callable[..., Any] | nn.Module, check: Check | None = None) -> None:
        self._any_settings = not isinstance(code, nn.Module) and not _is_written_out(code)
        snippet = Snippet(_with_one_tensor(code) if self._any_settings else code)
        self._leaves = snippet.leaves
        self._check = check
        self._fitting: dict[tuple[fx.Node, fx.Node], bool] = {}
        self.graph = snippet.graph
        self._root = snippet.value
        self._variables = [n for n in self.graph.nodes if n.op == "placeholder" and not is_constant(n)]
        self._calls = [node for node in self.graph.nodes if node.op.startswith("call_")]

    @property
    def alternatives(self) -> tuple[frozenset[str], ...]:
        """Sets of operations, of which one has to be there in full: all that it is made of, in each spelling."""
        names = dict.fromkeys(name for node in self._calls if (name := self._name(node)))
        return tuple(map(frozenset, product(*(sorted(spellings(name), key=name.__ne__) for name in names))))

    @property
    def leaves(self) -> tuple[nn.Module | AnyModule, ...]:
        """The modules that it calls, in order."""
        return tuple(self._leaves[str(node.target)] for node in self._calls if node.op == "call_module")

    @property
    def is_chain_of_modules(self) -> bool:
        """Whether it is modules alone, each reading the one before: the straight chain."""
        one_input = all(node.op == "call_module" and len(node.all_input_nodes) == 1 for node in self._calls)
        return one_input and len(self._variables) == 1 and all(len(node.users) == 1 for node in self._calls)

    @property
    def is_checked(self) -> bool:
        """Whether somebody's ``check`` has the last word on a match."""
        return self._check is not None

    def __len__(self) -> int:
        """Number of calls."""
        return len(self._calls)

    def matches(self, graph: fx.Graph) -> Iterator[Match]:
        """All places of a graph where it stands, in order."""
        for node in graph.nodes:
            self._fitting = {}  # whoever reads the matches may change the graph between them
            for bound in self._solutions(self._root, node, {}):
                match = self._match(node, bound)
                verdict = True if self._check is None else self._check(match)
                if verdict is not False and _undisturbed(bound, node):
                    yield match if verdict is True else replace(match, declined=verdict)
                    break

    def contains(self, other: "Pattern | CallPattern") -> bool:
        """Whether the other pattern, a smaller one, matches within the code of this one."""
        smaller = not isinstance(other, Pattern) or len(other) < len(self)
        with_names = {node: node.target for node in self._calls if node.op == "call_module"}
        root = nn.Module()
        for target in with_names.values():
            leaf = self._leaves[str(target)]
            root.add_module(str(target), leaf if isinstance(leaf, nn.Module) else nn.Module())
        owner, self.graph.owning_module = self.graph.owning_module, root  # type: ignore[assignment]
        try:
            return smaller and next(other.matches(self.graph), None) is not None
        finally:
            self.graph.owning_module = owner

    def _match(self, root: fx.Node, bound: Bound) -> Match:
        named = {str(node.target): value for node, value in bound.items() if node.op == "placeholder"}
        for wanted, found in bound.items():
            leaf = self._leaves.get(str(wanted.target)) if wanted.op == "call_module" else None
            if isinstance(leaf, AnyModule) and leaf.name:
                named[leaf.name] = found
        variables = tuple(bound[variable] for variable in self._variables)
        return Match(root, variables, named, tuple(bound[call] for call in self._calls))

    def _solutions(self, wanted: Any, found: Any, bound: Bound) -> Iterator[Bound]:
        """All ways in which a part of the pattern can stand for a part of the graph, given what is bound."""
        if not isinstance(wanted, fx.Node):
            yield from self._values(wanted, found, bound)
        elif wanted in bound:
            if equal(bound[wanted], found):
                yield bound
        elif wanted.op == "placeholder":
            if _may_stand_for(wanted, found):
                yield {**bound, wanted: found}
        elif isinstance(found, fx.Node) and self._fits(wanted, found):
            seen = []
            for pairs in self._pairings(wanted, found):
                for solution in self._all(pairs, bound):
                    if solution not in seen:
                        seen.append(solution)
                        yield {**solution, wanted: found}

    def _values(self, wanted: Any, found: Any, bound: Bound) -> Iterator[Bound]:
        if items := items_of(wanted, found):
            yield from self._all(list(zip(*items, strict=True)), bound)
        elif equal(wanted, found):
            yield bound

    def _all(self, pairs: Sequence[tuple[Any, Any]], bound: Bound) -> Iterator[Bound]:
        if not pairs:
            yield bound
            return
        for solution in self._solutions(*pairs[0], bound):
            yield from self._all(pairs[1:], solution)

    def _fits(self, wanted: Any, found: Any) -> bool:
        """Whether a part could stand for a part, were each variable free: spares the search what cannot be."""
        if not isinstance(wanted, fx.Node):
            if items := items_of(wanted, found):
                return all(map(self._fits, *items))
            return equal(wanted, found)
        if wanted.op == "placeholder":
            return _may_stand_for(wanted, found)
        if not isinstance(found, fx.Node):
            return False
        if (wanted, found) not in self._fitting:
            self._fitting[wanted, found] = self._same_operation(wanted, found) and any(
                all(self._fits(*pair) for pair in pairs) for pairs in self._pairings(wanted, found)
            )
        return self._fitting[wanted, found]

    def _same_operation(self, wanted: fx.Node, found: fx.Node) -> bool:
        if wanted.op == "get_attr" or found.op == "get_attr":
            return wanted.op == found.op
        if wanted.op != "call_module":
            return operation(found) == self._name(wanted)
        leaf, module = self._leaves[str(wanted.target)], _called(found)
        if isinstance(leaf, AnyModule):
            return module is not None and leaf.accepts(module)
        same_type = module is not None and behaves_as(module, type(leaf))
        return same_type or ((name := of_module(leaf)) is not None and of_node(found) == name)

    def _pairings(self, wanted: fx.Node, found: fx.Node) -> Iterator[list[tuple[Any, Any]]]:
        """Which argument has to match which."""
        if wanted.op == "get_attr":
            yield []
            return
        rank = _rank(found)
        exact = wanted.op != "call_module" and not self._any_settings
        for first, second in bound_together(wanted, found, _called(found), defaults=exact):
            rest = {name: value for name, value in second.items() if name not in first and name not in IGNORED}
            if any(nodes_in(value) or exact for value in rest.values()):
                continue
            names = [n for n, v in first.items() if n not in IGNORED and (exact or nodes_in(v))]
            if not all(name in second for name in names):
                continue
            pairs = [counted_alike(name, first[name], second[name], rank) for name in names]
            yield pairs
            if self._name(wanted) in COMMUTATIVE and len(names) >= 2 and equal(second.get("alpha", 1), 1):
                one, two = names[:2]
                if first[one] is first[two] or second[one] is second[two]:
                    continue
                swapped = [(first[one], second[two]), (first[two], second[one])]
                yield swapped + pairs[2:]

    def _name(self, node: fx.Node) -> str | None:
        if node.op != "call_module":
            return operation(node)
        leaf = self._leaves[str(node.target)]
        return of_module(leaf) if isinstance(leaf, nn.Module) else None


def _is_written_out(code: Any) -> bool:
    """Whether code is somebody's own function, rather than one of torch that is to be called."""
    return inspect.isfunction(code) and not (code.__module__ or "").startswith("torch.")


def _with_one_tensor(function: Any) -> Callable[[Any], Any]:
    return function if not callable(function) else lambda x: function(x)


def _called(node: fx.Node) -> nn.Module | None:
    root = node.graph.owning_module
    return root.get_submodule(str(node.target)) if node.op == "call_module" and root is not None else None


def _may_stand_for(variable: fx.Node, found: Any) -> bool:
    """A constant for a value of its own, another variable for what is computed."""
    return found is not None and is_constant(variable) is not bool(nodes_in(found))


def _rank(call: fx.Node) -> int | None:
    """Number of dimensions that a call counts: those of its input, or one more where it makes one."""
    value = example(call.all_input_nodes[0]) if call.all_input_nodes else None
    if not isinstance(value, Tensor):
        return None
    return value.ndim + (of_node(call) in {"unsqueeze", "stack"})


def _undisturbed(bound: Bound, root: fx.Node) -> bool:
    """Whether no value of a match is overwritten before the match is through, or to another reader's knowledge."""
    inner = {found for wanted, found in bound.items() if wanted.op.startswith("call_")}
    for wanted, value in bound.items():
        if not isinstance(value, fx.Node) or value is root:
            continue
        readers = [user for user in value.users if user in inner]
        writers = [user for user in value.users if user.args[:1] == (value,) and changes_input(user)]
        for writer in writers:
            if wanted.op == "placeholder":
                disturbs = writer is not root and writer < root and any(reader < writer for reader in readers)
                disturbs |= writer in inner and writer is not root
            else:
                disturbs = len(value.users) > 1 if writer in inner else writer < root
            if disturbs:
                return False
    return True
