"""Limits on the integers of a model quantised by Q/DQ nodes. A tensor that none of them carries is not judged."""

import re
from typing import Annotated, Literal

from pydantic import Field

from zoo.config import Config, Positive
from zoo.graph.view import Node, Value
from zoo.targets.limit import Limit
from zoo.targets.operators.operands import Of, chosen
from zoo.targets.wording import either


class QuantisedBits(Limit):
    """The width of a node's quantised tensors."""

    kind: Literal["quantised_bits"]
    allowed: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)]
    of: Of = "tensors"

    def found(self, node: Node) -> str | None:
        others = [f"{name} {held}" for name, held in _integers(node, self.of) if _bits(held) not in self.allowed]
        return f"{either(others, 'and')}; only {either(self.allowed)} bits" if others else None


class SameQuantisedBits(Limit):
    """A node's quantised inputs that are no constants and its quantised outputs have one width."""

    kind: Literal["same_quantised_bits"]

    def found(self, node: Node) -> str | None:
        found = _integers(node, "tensors")
        if len({_bits(held) for _, held in found}) < 2:
            return None
        return f"{either([f'{name} {held}' for name, held in found], 'and')}; only the same number of bits"


class Signs(Config):
    """The signs of quantised tensors, of the first two inputs and of the output.

    Inputs are ``signed`` where all of them are, ``mixed`` where there are both kinds, constants among them; they are
    ``unsigned`` where one that is no constant is.
    """

    inputs: Literal["signed", "unsigned", "mixed"]
    output: Literal["signed", "unsigned"] | None = None


class QuantisedSigns(Limit):
    """The signs of a node's quantised tensors must not be these."""

    kind: Literal["quantised_signs"]
    forbidden: Signs

    def found(self, node: Node) -> str | None:
        inputs = [found for place in (0, 1) for found in _integers(node, place)]
        outputs = _integers(node, "outputs")
        if not self._inputs_are(node, [_sign(held) for _, held in inputs]) or not self._output_is(outputs):
            return None
        words = either([f"{name} {held}" for name, held in [*inputs, *outputs]], "and")
        output = f" with {self.forbidden.output} output" if self.forbidden.output else ""
        return f"{words}; not {self.forbidden.inputs} inputs{output}"

    def _inputs_are(self, node: Node, signs: list[str]) -> bool:
        if self.forbidden.inputs == "signed":
            return set(signs) == {"signed"}
        if self.forbidden.inputs == "mixed":
            return len(set(signs)) == 2
        return "unsigned" in [_sign(held) for _, held in _integers(node, "variables")]

    def _output_is(self, outputs: list[tuple[str, str]]) -> bool:
        wanted = self.forbidden.output
        return wanted is None or wanted in [_sign(held) for _, held in outputs]


def _integers(node: Node, of: Of) -> list[tuple[str, str]]:
    """The quantised tensors among some, each with its integer type."""
    return [(name, held) for name, value in chosen(node, of) if (held := _held(value))]


def _held(value: Value) -> str | None:
    if value.quantised:
        return value.quantised
    return value.dtype if value.dtype in ("int8", "uint8", "int16", "uint16", "int4", "uint4") else None


def _bits(dtype: str) -> int:
    return int(re.sub(r"\D", "", dtype))


def _sign(dtype: str) -> str:
    return "unsigned" if dtype.startswith("u") else "signed"
