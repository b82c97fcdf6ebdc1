"""Limits on attributes, whose defaults are ONNX's of the node's opset. What an operator does not have holds."""

from functools import partial
from math import isclose
from typing import Annotated, Any, Literal

from pydantic import Field

from zoo.graph.view import Node
from zoo.targets.decided import first
from zoo.targets.limit import Limit
from zoo.targets.operators.parameters import attribute
from zoo.targets.wording import either

Choices = Annotated[tuple[int | float | str, ...], Field(strict=False, min_length=1)]
ChoicesByName = Annotated[dict[str, Choices], Field(min_length=1)]


class AttributeIn(Limit):
    """Each of these attributes has one of its values."""

    kind: Literal["attribute_in"]
    allowed: ChoicesByName

    def found(self, node: Node) -> str | None:
        return first(partial(self._other, node, name) for name in self.allowed)

    def _other(self, node: Node, name: str) -> str | None:
        value = attribute(node, name)
        if value is None or _is_among(value, self.allowed[name]):
            return None
        return f"{name} {value}; only {either(self.allowed[name])}"


class AttributeNotIn(Limit):
    """None of these attributes has one of its values."""

    kind: Literal["attribute_not_in"]
    forbidden: ChoicesByName

    def found(self, node: Node) -> str | None:
        return first(partial(self._refused, node, name) for name in self.forbidden)

    def _refused(self, node: Node, name: str) -> str | None:
        value = attribute(node, name)
        if value is None or not _is_among(value, self.forbidden[name]):
            return None
        return f"{name} {value}; not {either(self.forbidden[name])}"


def _is_among(value: Any, choices: tuple[int | float | str, ...]) -> bool:
    """Numbers are compared as the 32-bit floats that ONNX stores."""
    if isinstance(value, int | float):
        return any(not isinstance(each, str) and isclose(value, each, rel_tol=1e-6) for each in choices)
    return value in choices
