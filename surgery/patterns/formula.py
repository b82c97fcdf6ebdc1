"""A function of one tensor, recognised in a graph by its values, however it is written."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from surgery.observing.names import canonical, changes_input, of_node
from surgery.patterns.pattern import CallPattern, Match

# Operations that act on each element for itself, and conversions that keep its value.
_ELEMENTWISE = frozenset(
    [
        *(
            "add",
            "sub",
            "rsub",
            "rdiv",
            "mul",
            "div",
            "neg",
            "pow",
            "square",
            "sqrt",
            "exp",
            "log",
            "log1p",
            "abs",
            "reciprocal",
        ),
        *("sigmoid", "tanh", "erf", "softplus", "relu", "relu6", "hardtanh", "clamp", "clamp_min", "clamp_max"),
        *("hardsigmoid", "hardswish", "silu", "gelu", "mish", "elu", "selu", "celu", "to", "float", "contiguous"),
        *("tensor", "logsigmoid"),
    ]
)
_LARGEST = 14  # operations of the longest formula known, the tanh form of GELU, with conversions
_GRID = torch.linspace(-9.03, 9.07, 79, dtype=torch.float64)  # beyond every bound, on no bend


class Formula(CallPattern):
    """Matches what computes ``function`` of one tensor, by comparing values on a grid of numbers.

    Constants, the order of operands and the choice among equal operations do not matter. ``alternatives`` are sets of
    operations, of which one has to be there in full; ``tolerance`` is the largest absolute difference on [-9, 9].
    """

    def __init__(self, function: Callable[[Tensor], Tensor], *alternatives: str, tolerance: float = 2e-4) -> None:
        super().__init__(*(name for names in alternatives for name in names.split()))
        self._alternatives = tuple(frozenset(map(canonical, names.split())) for names in alternatives)
        self._values = function(_GRID.clone())
        self._tolerance = tolerance

    @property
    def alternatives(self) -> tuple[frozenset[str], ...]:
        """Sets of operations, of which one has to be there in full."""
        return self._alternatives

    def matches(self, graph: fx.Graph) -> Iterator[Match]:
        """All places of a graph where it is computed, in order."""
        for node in list(graph.nodes):
            if node._erased:
                continue  # whoever reads the matches rewrites the graph meanwhile
            if node.op in {"call_function", "call_method"} and of_node(node) in _ELEMENTWISE:
                source = self._source(node)
                if source is not None:
                    yield Match(node, (source,))

    def _source(self, root: fx.Node) -> fx.Node | None:
        """The node of which the root is this function: the cone below the root is grown, latest node first."""
        cone: list[fx.Node] = []
        frontier = {root}
        while frontier and len(cone) < _LARGEST:
            latest = max(frontier)
            if cone and changes_input(latest):
                return None  # what it reads is another value afterwards
            if not _is_elementwise(latest):
                return None
            cone.append(latest)
            frontier = (frontier - {latest}) | {n for n in latest.all_input_nodes if _constant(n) is None}
            if len(frontier) == 1:
                (source,) = frontier
                if self._is_function_of(source, cone) and not _overwritten([source, *cone[1:]], cone):
                    return source
        return None

    def _is_function_of(self, source: fx.Node, cone: list[fx.Node]) -> bool:
        names = {of_node(node) for node in cone}
        if not any(wanted <= names for wanted in self.alternatives):
            return False
        found = _evaluate(source, cone)
        return found is not None and bool((found.double() - self._values).abs().max() <= self._tolerance)


def _is_elementwise(node: fx.Node) -> bool:
    return node.op in {"call_function", "call_method", "call_module"} and of_node(node) in _ELEMENTWISE


def _constant(node: fx.Node) -> Tensor | None:
    """A single number that the module holds."""
    if node.op != "get_attr" or node.graph.owning_module is None:
        return None
    value: Any = node.graph.owning_module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    fixed = isinstance(value, Tensor) and not isinstance(value, nn.Parameter) and value.numel() == 1
    return value.detach().double().reshape(()) if fixed else None


def _overwritten(values: Sequence[fx.Node], cone: Sequence[fx.Node]) -> bool:
    """Whether something writes into a value after the formula read it and before the formula is done."""
    for value in values:
        read = min(node for node in cone if value in node.all_input_nodes)
        writers = (user for user in value.users if user.args[:1] == (value,) and changes_input(user))
        if any(read < writer < cone[0] for writer in writers):
            return True
    return False


def _evaluate(source: fx.Node, cone: list[fx.Node]) -> Tensor | None:
    """The values of the cone's root on the grid; None where they cannot be had."""
    known: dict[fx.Node, Any] = {source: _GRID.clone()}
    root = source.graph.owning_module

    def value(node: fx.Node) -> Any:
        return known[node] if node in known else _constant(node)

    try:
        with torch.no_grad():
            for node in reversed(cone):
                args, kwargs = fx.node.map_arg(node.args, value), fx.node.map_arg(node.kwargs, value)
                if node.op == "call_function":
                    known[node] = node.target(*args, **kwargs)  # type: ignore[operator]
                elif node.op == "call_method":
                    known[node] = getattr(args[0], str(node.target))(*args[1:], **kwargs)
                else:
                    known[node] = root.get_submodule(str(node.target))(*args, **kwargs)  # type: ignore[union-attr]
    except Exception:  # a call may not take what it is given here; then it is another function
        return None
    result = known[cone[0]]
    return result if isinstance(result, Tensor) and result.shape == _GRID.shape else None
