"""Dataflow patterns as expressions: what the last node of a pattern is computed from, and how."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import isclose
from typing import TYPE_CHECKING, Any

from zoo.graph.view import NOT_TOLD, Graph, Node, Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMMUTATIVE = frozenset({"Add", "Mul"})
ONNX = frozenset({"", "ai.onnx"})  # both are ONNX's own domain
_TOLERANCE = 1e-3  # of numbers: float16's, and what formulas round 1 / sqrt(2) to


@dataclass(frozen=True, eq=False)
class Anything:
    """Any value; the same one wherever the same instance stands."""


@dataclass(frozen=True, eq=False)
class Constant:
    """A value that does not depend on the model's input."""


@dataclass(frozen=True, eq=False)
class Number:
    """A constant whose elements are all this number. One whose data are not there is none."""

    value: float


@dataclass(frozen=True, eq=False)
class Call:
    """What a node of this operator makes of the inputs. Those that it has beyond them are constants, such as axes.

    A node of which ``where`` asks what the file does not tell is none.
    """

    op: str
    inputs: tuple["Term", ...]
    where: Callable[[Node], bool] = lambda node: True


@dataclass(frozen=True, eq=False)
class Either:
    """One of several ways to write the same, tried in this order."""

    terms: tuple["Term", ...]


Term = Anything | Constant | Number | Call | Either
Bound = Mapping[Term, str]  # names of the values that terms stand for


def call(op: str, *inputs: Term, where: Callable[[Node], bool] = lambda node: True) -> Call:
    """An operator of these inputs."""
    return Call(op, inputs, where)


def either(*terms: Term) -> Either:
    """One of these."""
    return Either(terms)


def matches(graph: Graph, *roots: Call, speaker: str = "") -> Iterator[tuple[Node, ...]]:
    """The nodes of each match, in the graph's order, the first of operator ``speaker`` before the others.

    A value inside of a match is not read outside of it and is no output of the model. A node is in one match only: of
    the ``roots``, what is written first is found first.
    """
    outputs = {value.name for value in graph.outputs}
    places = {id(node): place for place, node in enumerate(graph.nodes)}
    taken: set[int] = set()
    for root in roots:
        for node in graph.nodes:
            if node.op != root.op:
                continue
            found = next((nodes for nodes in _at(graph, root, node) if is_closed(graph, nodes, node, outputs)), None)
            if found is not None and taken.isdisjoint(map(id, found)):
                taken.update(map(id, found))
                yield spoken_for(sorted(found, key=lambda each: places[id(each)]), speaker)


def is_closed(graph: Graph, nodes: Sequence[Node], root: Node, outputs: set[str]) -> bool:
    """Whether nobody but these nodes reads what they make, the last one's output aside."""
    inside = set(map(id, nodes))
    made = (value.name for node in nodes if node is not root for value in node.outputs)
    return all(
        name not in outputs and all(id(reader) in inside for reader in graph.consumers.get(name, ())) for name in made
    )


def spoken_for(nodes: Sequence[Node], speaker: str) -> tuple[Node, ...]:
    """The nodes with the first of an operator before the others."""
    first = next((node for node in nodes if node.op == speaker), nodes[0])
    return (first, *(node for node in nodes if node is not first))


def holds(ask: Callable[[], bool]) -> bool:
    """Whether it does; what the file does not tell, or tells in a way that ONNX does not know, does not."""
    try:
        return ask()
    except NOT_TOLD:
        return False


def _at(graph: Graph, root: Call, node: Node) -> Iterator[list[Node]]:
    for bound in _of_node(graph, root, node, {}):
        nodes = [graph.producers[name] for term, name in bound.items() if isinstance(term, Call)]
        yield list({id(each): each for each in nodes}.values())


def _of_node(graph: Graph, term: Call, node: Node, bound: Bound) -> Iterator[Bound]:
    count = len(term.inputs)
    given = [value for value in node.inputs[:count] if value is not None]
    fits = node.op == term.op and node.domain in ONNX and len(given) == count and node.outputs and not node.folded
    beyond = (value for value in node.inputs[count:] if value is not None)
    if not fits or not all(value.is_constant for value in beyond) or not holds(lambda: term.where(node)):
        return
    orders = permutations(term.inputs) if node.op in COMMUTATIVE else [term.inputs]
    for order in orders:
        yield from _of_inputs(graph, order, given, {**bound, term: node.outputs[0].name})


def _of_inputs(graph: Graph, terms: Sequence[Term], values: Sequence[Value], bound: Bound) -> Iterator[Bound]:
    if not terms:
        yield bound
        return
    for more in _of_value(graph, terms[0], values[0], bound):
        yield from _of_inputs(graph, terms[1:], values[1:], more)


def _of_value(graph: Graph, term: Term, value: Value, bound: Bound) -> Iterator[Bound]:
    if term in bound:
        if bound[term] == value.name:
            yield bound
        return
    match term:
        case Anything():
            yield {**bound, term: value.name}
        case Constant():
            if value.is_constant:
                yield bound
        case Number(number):
            if _all_close(value, number):
                yield bound
        case Either(terms):
            for one in terms:
                for more in _of_value(graph, one, value, bound):
                    yield {**more, term: value.name}
        case Call():
            node = graph.producers.get(value.name)
            if node is not None and node.outputs[0].name == value.name:
                yield from _of_node(graph, term, node, bound)


def _all_close(value: Value, number: float) -> bool:
    return value.is_constant and holds(lambda: _is_filled(value.data(), number))


def _is_filled(data: "NDArray[Any]", number: float) -> bool:
    if data.size == 0 or data.dtype.kind == "c":  # of a complex number only the real part would be compared
        return False
    return all(isclose(each, number, rel_tol=_TOLERANCE) for each in {data.min(), data.max()})
