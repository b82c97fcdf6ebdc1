"""Limits on Resize and Upsample: factors, interpolation and how pixels of both images meet."""

from math import isclose, log2
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from zoo.config import AboveZero, Positive
from zoo.graph.view import Node, NotKnown
from zoo.targets.condition import Aspect, Condition, allowed, forbidden
from zoo.targets.limit import Limit
from zoo.targets.operators.parameters import attribute
from zoo.targets.operators.scales import scales
from zoo.targets.wording import either, sides

MODE, COORDINATES, NEAREST = "mode", "coordinate_transformation_mode", "nearest_mode"
Texts = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]


class ResizeScale(Limit):
    """The factor of every axis: ``equal`` of height and width, ``power_of_two`` of 1/2, 1, 2, 4 and so on.

    Factors follow from scales, sizes or the shapes.
    """

    kind: Literal["resize_scale"]
    min: AboveZero | None = None
    max: AboveZero | None = None
    integer: bool = False
    power_of_two: bool = False
    equal: bool = False

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.integer or self.power_of_two or self.equal or self.min or self.max):
            raise ValueError("a limit of scales must say at least one of min, max, integer, power_of_two and equal")
        return self

    def found(self, node: Node) -> str | None:
        factors = scales(node)
        wanted = [
            f"at least {self.min:g}" if self.min and min(factors) < self.min else "",
            f"at most {self.max:g}" if self.max and max(factors) > self.max else "",
            "whole numbers" if self.integer and not all(_is_whole(factor) for factor in factors) else "",
            "powers of two" if self.power_of_two and not all(_is_whole(log2(factor)) for factor in factors) else "",
            "the same in height and width" if self.equal and len(set(factors[2:])) > 1 else "",
        ]
        missed = [words for words in wanted if words]
        return (
            f"scales {sides([f'{factor:g}' for factor in factors])}; only {either(missed, 'and')}" if missed else None
        )


class Interpolation(Condition):
    """How an image is enlarged; of Upsample and of Resize before opset 11 asymmetric, with floor."""

    modes: Texts | None = None  # nearest, linear, cubic
    coordinates: Texts | None = None  # coordinate_transformation_mode
    nearest: Texts | None = None  # nearest_mode
    output_max: Positive | None = None  # some side of the output is at most this

    aspects: ClassVar[dict[str, Aspect]] = {
        "modes": Aspect(
            lambda node, known: _said(node, MODE) in known,
            lambda known: f"mode {either(known)}",
            lambda node: f"mode {_said(node, MODE)}",
        ),
        "coordinates": Aspect(
            lambda node, known: _said(node, COORDINATES) in known,
            lambda known: f"coordinates {either(known)}",
            lambda node: f"coordinates {_said(node, COORDINATES)}",
        ),
        "nearest": Aspect(
            lambda node, known: _said(node, NEAREST) in known,
            lambda known: f"nearest mode {either(known)}",
            lambda node: f"nearest mode {_said(node, NEAREST)}",
        ),
        "output_max": Aspect(
            lambda node, size: min(node.outputs[0].shape[2:]) <= size,
            lambda size: f"an output side of at most {size}",
            lambda node: f"output {sides(node.outputs[0].shape[2:])}",
        ),
    }


class ForbiddenResize(Limit):
    """The interpolation must not meet the condition."""

    kind: Literal["forbidden_resize"]
    when: Interpolation

    def found(self, node: Node) -> str | None:
        return forbidden(node, self.when, self.severity)


class AllowedResize(Limit):
    """The interpolation must meet one of the conditions in ``only``, where it meets ``when``."""

    kind: Literal["allowed_resize"]
    when: Interpolation | None = None
    only: Annotated[tuple[Interpolation, ...], Field(strict=False, min_length=1)]

    def found(self, node: Node) -> str | None:
        return allowed(node, self.when, self.only)


def _said(node: Node, name: str) -> str:
    value = attribute(node, name)
    if value is None:
        raise NotKnown(f"{name} of {node.op}")
    return str(value)


def _is_whole(factor: float) -> bool:
    return isclose(factor, round(factor), abs_tol=1e-6)
