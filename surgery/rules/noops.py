"""Calls that give back what they got: casts to the same type, views of the same shape, permutes that cancel."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, fx
from torch.nn import functional as F

from surgery.observing.names import of_node
from surgery.observing.shapes import example, shape_of
from surgery.patterns.pattern import CallPattern, Match
from surgery.rule import Decline, Example, Promise, Rule, Stage
from surgery.rule_parts.example_call import ExampleCall

_CASTS = {"to", "type", "type_as", "float", "double", "half", "bfloat16"}
_VIEWS = {"view", "reshape", "expand"}
_NEUTRAL = {"mul": 1, "div": 1, "add": 0, "sub": 0}
_ORDERS = {"permute", "transpose", "swapaxes"}
_OTHERS = {"contiguous", "flatten", "pad", "getitem"}


class _NoOps(CallPattern):
    """Calls whose value is one that is already there, which is their match's variable."""

    def matches(self, graph: fx.Graph) -> Iterator[Match]:
        for match in super().matches(graph):
            source = _same_value(match.root)
            if source is not None:
                yield Match(match.root, (source,))


class RemoveNoops(Rule):
    """An option: calls that change nothing for any input of these types; exporters drop most of them as well.

    What only holds for the sizes of the example, such as a reshape by numbers, stays.
    """

    name = "remove_noops"
    promise = Promise.SAME_OUTPUT
    removes = frozenset({"constant_pad_nd", "expand", "permute", "transpose", "mul"})
    stage = Stage.CLEANUP
    default = False
    patterns = (_NoOps(*_CASTS, *_VIEWS, *_NEUTRAL, *_ORDERS, *_OTHERS),)

    def examples(self) -> Sequence[Example]:
        """One of each kind; what works on other sizes or orders stays."""
        gone = (
            lambda x: x.to(x.dtype),
            lambda x: x.permute(0, 1, 2, 3),
            lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2),
            lambda x: x.transpose(1, -1).transpose(3, 1),
            lambda x: x.reshape(x.shape[0], -1, x.size(2), x.shape[3]),
            lambda x: x.expand(-1, -1, -1, -1),
            lambda x: x.mean((2, 3)).flatten(1)[..., None, None],
            lambda x: F.pad(x, (0, 0, 0, 0)),
            lambda x: x[:, 0:],
            lambda x: 1.0 * x,
            lambda x: x.contiguous(),
        )
        stay = (
            lambda x: x.reshape(2, 4, 5, 5),
            lambda x: x.permute(0, 2, 3, 1),
            lambda x: x.mul(2),
            lambda x: x[:, 1:],
        )
        return [
            *(Example(ExampleCall.of(_then(f)), (2, 4, 5, 5), 1) for f in gone),
            *(Example(ExampleCall.of(f), (2, 4, 5, 5), 0) for f in stay),
        ]

    def emit(self, graph: fx.Graph, match: Match) -> fx.Node | Decline:
        """The value that was there."""
        return match.variables[0]


def _then(function: Any) -> Any:
    return lambda x: F.relu(function(x))


def _same_value(node: fx.Node) -> fx.Node | None:
    """The node whose value this one has, for all sizes, if there is one."""
    operation, tensors = of_node(node), [n for n in node.args if isinstance(n, fx.Node)]
    if operation is None or not tensors:
        return None
    source = tensors[0]
    before, after = example(source), example(node)
    if not isinstance(before, Tensor) or not isinstance(after, Tensor):
        return None
    if before.shape != after.shape or before.dtype != after.dtype or before.device != after.device:
        return _cancelled(node, source)
    if operation in _CASTS:
        return source
    if operation in _ORDERS:
        return source if _is_sorted(_order(node)) else _cancelled(node, source)
    return source if _keeps(operation, node, source) else None


def _keeps(operation: str, node: fx.Node, source: fx.Node) -> bool:
    value: Any = example(source)
    rest, dimensions = _flat(node.args[1:]), len(shape_of(source) or ())
    if operation in _VIEWS:
        wanted = [size == -1 or _is_size(size, source, i) for i, size in enumerate(rest)]
        several = [size for size in rest if size == -1] if operation != "expand" else []
        return len(rest) == dimensions and all(wanted) and len(several) < 2
    if operation in _NEUTRAL:
        numbers = [number for number in node.args if not isinstance(number, fx.Node)]
        ahead = isinstance(node.args[0], fx.Node) or operation in {"mul", "add"}
        neutral = [n for n in numbers if type(n) in {int, float} and n == _NEUTRAL[operation]]
        return len(numbers) == len(neutral) == 1 and ahead and not node.kwargs and bool(value.is_floating_point())
    if operation == "flatten":
        ends = [*rest, 0, -1] if not rest else [*rest, -1]  # defaults: all of them
        fixed = dimensions > 0 and not node.kwargs and all(type(dim) is int for dim in ends)
        return fixed and ends[0] % dimensions == ends[1] % dimensions
    if operation == "pad":
        return bool(rest) and all(type(amount) is int and amount == 0 for amount in _flat(node.args[1:2]))
    if operation == "getitem":
        return all(i is Ellipsis or (isinstance(i, slice) and _is_all(i)) for i in rest)
    reads_layout = any(user.op == "call_module" or of_node(user) == "view" for user in node.users)
    return operation == "contiguous" and bool(value.is_contiguous()) and not reads_layout


def _is_all(index: slice) -> bool:
    return index.start in (None, 0) and index.stop is None and index.step in (None, 1)


def _is_size(value: Any, source: fx.Node, dim: int) -> bool:
    """Whether a value is that size of that tensor, whatever it is."""
    if not isinstance(value, fx.Node):
        return False
    if of_node(value) == "size" and len(value.args) == 2:
        return value.args == (source, dim)
    if of_node(value) == "getitem" and value.args[1] == dim and isinstance(value.args[0], fx.Node):
        sizes = value.args[0]
        is_shape = of_node(sizes) == "getattr" and sizes.args[1:] == ("shape",)
        return sizes.args[:1] == (source,) and (is_shape or (of_node(sizes) == "size" and len(sizes.args) == 1))
    return False


def _flat(values: Sequence[Any]) -> list[Any]:
    """The arguments, given one by one or as one sequence."""
    return list(values[0]) if len(values) == 1 and isinstance(values[0], list | tuple) else list(values)


def _order(node: fx.Node) -> list[int] | None:
    """What a call does to the order of dimensions, as the arguments of a permute."""
    dimensions, rest = len(shape_of(node) or ()), _flat(node.args[1:])
    if node.kwargs or not all(type(dim) is int for dim in rest):
        return None
    rest = [dim % dimensions for dim in rest]
    if of_node(node) == "permute":
        return rest
    if of_node(node) in _ORDERS and len(rest) == 2:
        order = list(range(dimensions))
        order[rest[0]], order[rest[1]] = order[rest[1]], order[rest[0]]
        return order
    return None


def _is_sorted(order: list[int] | None) -> bool:
    return order is not None and order == sorted(order)


def _cancelled(node: fx.Node, source: fx.Node) -> fx.Node | None:
    """What stands before two permutes of which one undoes the other."""
    if of_node(node) not in _ORDERS or of_node(source) not in _ORDERS:
        return None
    first, second = _order(source), _order(node)
    if first is None or second is None or not isinstance(source.args[0], fx.Node):
        return None
    return source.args[0] if _is_sorted([first[dim] for dim in second]) else None
