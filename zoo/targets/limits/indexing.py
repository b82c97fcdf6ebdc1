"""Limits on Gather, Slice and ScatterND: what is taken from a tensor or put into it."""

from typing import Annotated, Literal

from pydantic import Field

from zoo.graph.view import Node, NotKnown
from zoo.targets.limit import Limit
from zoo.targets.operators.axes import axes, rank_of
from zoo.targets.operators.parameters import parameter
from zoo.targets.wording import either, sides

Part = Literal["element", "line", "plane"]
PARTS: tuple[Part, ...] = ("element", "line", "plane")  # by the number of the data's last axes that an update spans


class OnesBeforeAxis(Limit):
    """All dimensions of the first input in front of the axis that the node works along are 1."""

    kind: Literal["ones_before_axis"]

    def found(self, node: Node) -> str | None:
        value = node.input(0)
        place = min(axes(node)) + rank_of(node)
        dims = (value.dims or ())[:place]
        if any(isinstance(size, int) and size > 1 for size in dims):
            return f"axis {place} of {sides(value.dims or ())}; only 1 in front of it"
        if not all(isinstance(size, int) for size in dims):
            raise NotKnown(f"the shape of {value.name}")
        return None


class SliceSteps(Limit):
    """The steps that a Slice takes."""

    kind: Literal["slice_steps"]
    allowed: Annotated[tuple[int, ...], Field(strict=False, min_length=1)]

    def found(self, node: Node) -> str | None:
        others = [step for step in parameter(node, "steps") or [] if step not in self.allowed]
        return f"steps {either(others, 'and')}; only {either(self.allowed)}" if others else None


class ScatterUpdates(Limit):
    """What each index of a ScatterND replaces: one element, a line along the last axis or a plane of the last two."""

    kind: Literal["scatter_updates"]
    allowed: Annotated[tuple[Part, ...], Field(strict=False, min_length=1)]

    def found(self, node: Node) -> str | None:
        indexed = node.input(1).dims
        if not indexed or not isinstance(indexed[-1], int):
            raise NotKnown(f"the shape of {node.input(1).name}")
        spanned = node.input(0).rank - indexed[-1]
        found = PARTS[spanned] if 0 <= spanned < len(PARTS) else f"block of {spanned} dimensions"
        return None if found in self.allowed else f"each update is one {found}; only {either(self.allowed)}"
