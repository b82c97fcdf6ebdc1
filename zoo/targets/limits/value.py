"""Limits on what constants hold: bounds of a clip, the value of a padding, data of zeros."""

from math import inf
from typing import Annotated, Literal

from pydantic import Field

from zoo.graph.view import Node
from zoo.targets.limit import Limit
from zoo.targets.operators.operands import Position, chosen
from zoo.targets.operators.parameters import attribute, input_named, parameter
from zoo.targets.wording import either

Number = int | float


class ClipRange(Limit):
    """Clip's lower bound is at most one number and its upper bound above another; a bound left out is infinite."""

    kind: Literal["clip_range"]
    min_at_most: Number
    max_above: Number

    def found(self, node: Node) -> str | None:
        low, high = (parameter(node, name) for name in ("min", "max"))
        low, high = (-inf if low is None else low), (inf if high is None else high)
        if low <= self.min_at_most and high > self.max_above:
            return None
        return f"clip to {low:g} ... {high:g}; only from at most {self.min_at_most:g} to above {self.max_above:g}"


class PadValue(Limit):
    """The constant that a Pad fills in; other modes fill in what the image holds."""

    kind: Literal["pad_value"]
    value: Number

    def found(self, node: Node) -> str | None:
        if attribute(node, "mode") != "constant":
            return None
        name = "value" if input_named(node, "constant_value") is None else "constant_value"
        given = parameter(node, name) or 0
        return None if given == self.value else f"padding of {given:g}; only of {self.value:g}"


class ZeroIfConstant(Limit):
    """These inputs hold zeros only, where they are constants."""

    kind: Literal["zero_if_constant"]
    inputs: Annotated[tuple[Position, ...], Field(strict=False, min_length=1)]

    def found(self, node: Node) -> str | None:
        given = [(name, value) for place in self.inputs for name, value in chosen(node, place) if value.is_constant]
        found = [name for name, value in given if value.data().any()]
        return f"{either(found, 'and')} with other constants than zeros; only zeros" if found else None
