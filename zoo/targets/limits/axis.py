"""Limits on the axes that a node works along: width, height and channel from the end, batch the first of 4 or more."""

from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from zoo.config import Positive
from zoo.graph.view import Node
from zoo.targets.decided import every
from zoo.targets.limit import Limit
from zoo.targets.operators.axes import FROM_END, AxisName, axes, is_flat, is_named, name_of, permutation, rank_of
from zoo.targets.wording import either

Axes = Annotated[tuple[AxisName, ...], Field(strict=False, min_length=1)]


class AxisIn(Limit):
    """Every axis that the node works along is one of these; of ``flat``, where each variable is 1 but for its last."""

    kind: Literal["axis_in"]
    axes: Axes
    flat: Annotated[tuple[AxisName, ...], Field(strict=False)] = ()

    def found(self, node: Node) -> str | None:
        found = axes(node)
        others = [axis for axis in found if not _is_one_of(axis, self.axes, node)]
        if not others or (all(_is_one_of(axis, self.flat, node) for axis in others) and _all_flat(node)):
            return None
        flat = f", of flat inputs along {either(self.flat)}" if self.flat else ""
        return f"along {either(map(name_of, found), 'and')}; only along {either(self.axes)}{flat}"


class AxisNotIn(Limit):
    """No axis that the node works along is one of these."""

    kind: Literal["axis_not_in"]
    axes: Axes

    def found(self, node: Node) -> str | None:
        refused = [axis for axis in axes(node) if _is_one_of(axis, self.axes, node)]
        return f"along {either(map(name_of, refused), 'and')}; not along {either(self.axes)}" if refused else None


class AxesMax(Limit):
    """The most axes that the node works along at once."""

    kind: Literal["axes_max"]
    value: Positive

    def found(self, node: Node) -> str | None:
        found = axes(node)
        if len(found) <= self.value:
            return None
        return f"along {either(map(name_of, found), 'and')}; at most {self.value} at once"


class AxisNotMoved(Limit):
    """A Transpose does not move one axis to any of some places, counted from the front, at a rank or above."""

    kind: Literal["axis_not_moved"]
    axis: Literal["width", "height", "channel"]
    to: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False, min_length=1)]
    rank_min: Positive = 1

    def found(self, node: Node) -> str | None:
        order = permutation(node)
        origin = len(order) + FROM_END[self.axis]
        if len(order) < self.rank_min or origin < 0 or order.index(origin) not in self.to:
            return None
        where = f"{self.axis} moved to axis {order.index(origin)} at rank {len(order)}"
        return f"{where}; not to axis {either(self.to)} at rank {self.rank_min} or more"


def _all_flat(node: Node) -> bool:
    return every(partial(is_flat, value) for value in node.variables)


def _is_one_of(axis: int, names: tuple[AxisName, ...], node: Node) -> bool:
    return any(is_named(axis, name, lambda: rank_of(node)) for name in names)
