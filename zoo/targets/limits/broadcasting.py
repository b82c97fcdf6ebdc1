"""Limits on how operands of different shapes meet: aligned at the last axis, sizes of 1 repeated."""

from collections.abc import Iterator
from functools import partial
from itertools import zip_longest
from typing import Annotated, Literal

from pydantic import Field

from zoo.graph.view import Dimension, Node, NotKnown, Value
from zoo.targets.decided import first
from zoo.targets.limit import Limit
from zoo.targets.operators.axes import FROM_END, AxisName, is_named, name_of
from zoo.targets.operators.operands import chosen
from zoo.targets.wording import either, sides

Along = Literal["width", "height", "channel"]
AnyAxes = Annotated[tuple[AxisName, ...], Field(strict=False)]


class Broadcastable(Limit):
    """Operands have one shape or are repeated to one as ONNX defines it."""

    kind: Literal["broadcastable"]

    def found(self, node: Node) -> str | None:
        operands = [value for value in node.inputs if value is not None]
        return first(partial(_clash, operands, axis, column) for axis, column in _columns(operands))


class BroadcastIn(Limit):
    """Operands that are no constants are repeated along these axes at most; of none, they have the same shape.

    Of MatMul the axes in front of the matrices.
    """

    kind: Literal["broadcast_in"]
    axes: AnyAxes

    def found(self, node: Node) -> str | None:
        allowed = f"only along {either(self.axes)}" if self.axes else "only the same shape"
        return first(partial(self._refused, node, axis, column, allowed) for axis, column in _repeated(node))

    def _refused(self, node: Node, axis: int, column: tuple[Dimension, ...], allowed: str) -> str | None:
        named = any(is_named(axis, name, lambda: _rank(node)) for name in self.axes)
        return None if named else _broadcast(node, axis, column, allowed)


class BroadcastNotIn(Limit):
    """Operands that are no constants are not repeated along these axes. Of MatMul, in front of the matrices."""

    kind: Literal["broadcast_not_in"]
    axes: Annotated[tuple[AxisName, ...], Field(strict=False, min_length=1)]

    def found(self, node: Node) -> str | None:
        refused = f"not along {either(self.axes)}"
        return first(partial(self._refused, node, axis, column, refused) for axis, column in _repeated(node))

    def _refused(self, node: Node, axis: int, column: tuple[Dimension, ...], refused: str) -> str | None:
        named = any(is_named(axis, name, lambda: _rank(node)) for name in self.axes)
        return _broadcast(node, axis, column, refused) if named else None


class ConstantVector(Limit):
    """A constant that has one dimension above 1 lies, where it meets the other operand, along one of these axes."""

    kind: Literal["constant_vector"]
    along: Annotated[tuple[Along, ...], Field(strict=False, min_length=1)]

    def found(self, node: Node) -> str | None:
        return first(partial(self._misplaced, name, value) for name, value in chosen(node, "constants"))

    def _misplaced(self, name: str, value: Value) -> str | None:
        shape = value.shape
        long = [place - len(shape) for place, size in enumerate(shape) if size > 1]
        if len(long) != 1 or long[0] in [FROM_END[axis] for axis in self.along]:
            return None
        return f"{name} {sides(shape)} lies along {name_of(long[0])}; only along {either(self.along)}"


def _broadcast(node: Node, axis: int, column: tuple[Dimension, ...], words: str) -> str | None:
    """The operands' shapes and a limit where they differ along an axis. Raises NotKnown."""
    known = {size for size in column if isinstance(size, int)}
    if len(known) < 2:
        named = {size for size in column if isinstance(size, str)}
        if len(column) > 1 and (None in column or len(known) + len(named) > 1):
            raise NotKnown(f"whether the operands of {node.op} have the same shape")
        return None
    shapes = either([sides(value.dims or ()) for value in _operands(node)], "and")
    return f"{shapes}, repeated along {name_of(axis)}; {words}"


def _repeated(node: Node) -> Iterator[tuple[int, tuple[Dimension, ...]]]:
    """The axes along which operands may be repeated, each with the operands' sizes."""
    for axis, column in _columns(_operands(node)):
        if node.op != "MatMul" or axis < -2:
            yield axis, column


def _operands(node: Node) -> list[Value]:
    """What meets what: the addend of a Gemm its output, elsewhere the variable inputs."""
    if node.op != "Gemm":
        return list(node.variables)
    addend = [value for _, value in chosen(node, 2) if not value.is_constant]
    return [*addend, *node.outputs] if addend else []


def _columns(values: list[Value]) -> Iterator[tuple[int, tuple[Dimension, ...]]]:
    """Each axis from the end with the sizes of all values along it, 1 where a value does not have it."""
    for value in values:
        if value.dims is None:
            raise NotKnown(f"the shape of {value.name}")
    reversed_dims = [tuple(reversed(value.dims or ())) for value in values]
    for place, column in enumerate(zip_longest(*reversed_dims, fillvalue=1)):
        yield -1 - place, column


def _clash(operands: list[Value], axis: int, column: tuple[Dimension, ...]) -> str | None:
    sizes = {size for size in column if size != 1}
    if len({size for size in sizes if isinstance(size, int)}) > 1:
        shapes = either([sides(value.dims or ()) for value in operands], "and")
        return f"{shapes} do not fit along {name_of(axis)}; only the same size or 1"
    if len(sizes) > 1:
        raise NotKnown("whether the operands' shapes fit")
    return None


def _rank(node: Node) -> int:
    return max(value.rank for value in _operands(node))
