"""Limits on the shapes of a node's tensors."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from zoo.config import Positive
from zoo.graph.view import Dimension, Node, NotKnown, Value
from zoo.targets.decided import first
from zoo.targets.limit import Limit
from zoo.targets.operators.axes import AxisName, is_flat, size_along
from zoo.targets.operators.operands import Of, chosen
from zoo.targets.operators.parameters import attribute
from zoo.targets.wording import either, sides, within

Count = Annotated[int, Field(ge=0)]


class Range(Limit):
    """A number within bounds, one of which may be left out."""

    min: Count | None = None
    max: Count | None = None
    of: Of = "tensors"

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("min, max or both must be said")
        return self

    def found(self, node: Node) -> str | None:
        return first(partial(self._outside, name, value) for name, value in chosen(node, self.of))

    def _outside(self, name: str, value: Value) -> str | None:
        """What is out of bounds, in words. Raises NotKnown."""
        raise NotImplementedError

    def _misses(self, low: int, high: int) -> bool:
        """Whether a number somewhere from low to high is out of bounds. Raises NotKnown where that decides."""
        if (self.max is not None and low > self.max) or (self.min is not None and high < self.min):
            return True
        if (self.max is None or high <= self.max) and (self.min is None or low >= self.min):
            return False
        raise NotKnown("the sizes that decide")


class Rank(Range):
    """The number of dimensions."""

    kind: Literal["rank"]

    def _outside(self, name: str, value: Value) -> str | None:
        if not self._misses(value.rank, value.rank):
            return None
        return f"{name} of rank {value.rank}, {sides(value.dims or ())}; rank {within(self.min, self.max)}"


class NonsingletonRank(Range):
    """The number of dimensions larger than 1."""

    kind: Literal["nonsingleton_rank"]

    def _outside(self, name: str, value: Value) -> str | None:
        dims = _dims(value)
        sure = sum(isinstance(size, int) and size > 1 for size in dims)
        perhaps = sum(not isinstance(size, int) for size in dims)
        try:
            missed = self._misses(sure, sure + perhaps)
        except NotKnown:
            raise NotKnown(f"the shape of {value.name}") from None
        return f"{name} {sides(dims)}; {within(self.min, self.max)} dimensions above 1" if missed else None


class Size(Range):
    """The size of one named dimension; 1 where a tensor has too few to have it."""

    kind: Literal["size"]
    axis: AxisName

    def _outside(self, name: str, value: Value) -> str | None:
        size = size_along(value, self.axis)
        return f"{self.axis} {size} of {name}; {within(self.min, self.max)}" if self._misses(size, size) else None


class PlaneMax(Limit):
    """The most elements of one channel of the first input: its height times its width."""

    kind: Literal["plane_max"]
    value: Positive

    def found(self, node: Node) -> str | None:
        dims = _dims(node.input(0))[2:]
        known = [size for size in dims if isinstance(size, int)]
        if prod(known) > self.value:
            return f"plane {sides(dims)}, {prod(known)} elements; at most {self.value}"
        if len(known) < len(dims):
            raise NotKnown(f"the shape of {node.input(0).name}")
        return None


class MultipleOf(Limit):
    """Dimensions of the first input divide by a number, or by the node's ``blocksize`` or its square."""

    kind: Literal["multiple_of"]
    axes: Annotated[tuple[AxisName, ...], Field(strict=False, min_length=1)]
    value: Positive | Literal["block", "block_squared"]

    def found(self, node: Node) -> str | None:
        divisor = self._divisor(node)
        return first(partial(self._remainder, node.input(0), axis, divisor) for axis in self.axes)

    def _divisor(self, node: Node) -> int:
        if isinstance(self.value, int):
            return self.value
        block = attribute(node, "blocksize")
        if block is None:
            raise NotKnown(f"the block size of {node.op}")
        return int(block) ** (2 if self.value == "block_squared" else 1)

    def _remainder(self, value: Value, axis: AxisName, divisor: int) -> str | None:
        size = size_along(value, axis)
        return f"{axis} {size}; only multiples of {divisor}" if size % divisor else None


class FlatInput(Limit):
    """All dimensions of the first input but the last are 1: it has been flattened."""

    kind: Literal["flat_input"]

    def found(self, node: Node) -> str | None:
        value = node.input(0)
        dims = value.dims or ()
        return None if is_flat(value) else f"input {sides(dims)}; only {sides([*[1] * (len(dims) - 1), 'N'])}"


class SameVolume(Limit):
    """The first input and the output have as many elements."""

    kind: Literal["same_volume"]

    def found(self, node: Node) -> str | None:
        before, after = _dims(node.input(0)), _dims(node.outputs[0])
        if _names(before) != _names(after) or None in (*before, *after):
            raise NotKnown(f"the shape of {node.outputs[0].name}")
        if _elements(before) == _elements(after):
            return None
        return f"{sides(before)} to {sides(after)}; only as many elements"


class StaticShapes(Limit):
    """No dimension of a tensor is dynamic: ``always``, or where an input is a constant."""

    kind: Literal["static_shapes"]
    when: Literal["always", "constant_operand"] = "always"

    def found(self, node: Node) -> str | None:
        if self.when == "constant_operand" and not chosen(node, "constants"):
            return None
        return first(partial(self._dynamic, name, value) for name, value in chosen(node, "tensors"))

    def _dynamic(self, name: str, value: Value) -> str | None:
        dims = _dims(value)
        if names := [size for size in dims if isinstance(size, str)]:
            return f"{name} {sides(dims)}; {either(names, 'and')} must be a number"
        if None in dims:
            raise NotKnown(f"the shape of {value.name}")
        return None


def _dims(value: Value) -> tuple[Dimension, ...]:
    if value.dims is None:
        raise NotKnown(f"the shape of {value.name}")
    return value.dims


def _names(dims: Sequence[Dimension]) -> Counter[str]:
    return Counter(size for size in dims if isinstance(size, str))


def _elements(dims: Sequence[Dimension]) -> int:
    return prod(size for size in dims if isinstance(size, int))
