"""Limits on how many inputs and outputs a node has, which are constants, and what they hold."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from zoo.config import Positive
from zoo.graph.view import Node, NotKnown, Value
from zoo.targets.decided import first
from zoo.targets.limit import Limit
from zoo.targets.operators.operands import Of, Position, chosen
from zoo.targets.wording import either, sides

Positions = Annotated[tuple[Position, ...], Field(strict=False, min_length=1)]
Count = Annotated[int, Field(ge=0)]
SymbolicShape = Annotated[tuple[Positive | Literal["N"], ...], Field(strict=False)]


class InputsMax(Limit):
    """The most inputs, constants among them."""

    kind: Literal["inputs_max"]
    value: Positive

    def found(self, node: Node) -> str | None:
        count = sum(value is not None for value in node.inputs)
        return f"{count} inputs; at most {self.value}" if count > self.value else None


class VariableInputsMax(Limit):
    """The most inputs that are no constants."""

    kind: Literal["variable_inputs_max"]
    value: Count

    def found(self, node: Node) -> str | None:
        count = len(node.variables)
        return f"{count} inputs that are no constants; at most {self.value}" if count > self.value else None


class OutputsMax(Limit):
    """The most outputs."""

    kind: Literal["outputs_max"]
    value: Positive

    def found(self, node: Node) -> str | None:
        count = sum(bool(value.name) for value in node.outputs)
        return f"{count} outputs; at most {self.value}" if count > self.value else None


class ConstantInput(Limit):
    """These inputs, where they are given, are constants."""

    kind: Literal["constant_input"]
    inputs: Positions

    def found(self, node: Node) -> str | None:
        found = [name for place in self.inputs for name, value in chosen(node, place) if not value.is_constant]
        return f"{either(found, 'and')} computed from the model's input; only constants" if found else None


class VariableInput(Limit):
    """These inputs, where they are given, are no constants."""

    kind: Literal["variable_input"]
    inputs: Positions

    def found(self, node: Node) -> str | None:
        found = [name for place in self.inputs for name, value in chosen(node, place) if value.is_constant]
        return f"{either(found, 'and')} constant; only what is computed from the model's input" if found else None


class AbsentInput(Limit):
    """These inputs are left out, or are constants of no elements, which say the same."""

    kind: Literal["absent_input"]
    inputs: Positions

    def found(self, node: Node) -> str | None:
        found = [name for place in self.inputs for name, value in chosen(node, place) if 0 not in (value.dims or ())]
        return f"{either(found, 'and')} given; must be left out" if found else None


class DtypeIn(Limit):
    """The element type of tensors."""

    kind: Literal["dtype_in"]
    dtypes: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]  # numpy's names, as float32
    of: Of = "tensors"

    def found(self, node: Node) -> str | None:
        return first(partial(self._other, name, value) for name, value in chosen(node, self.of))

    def _other(self, name: str, value: Value) -> str | None:
        if value.dtype is None:
            raise NotKnown(f"the type of {value.name}")
        return None if value.dtype in self.dtypes else f"{name} of {value.dtype}; only {either(self.dtypes)}"


class ParameterShape(Limit):
    """The shape of these inputs, where they are given: numbers and N, the size of the output along an axis of ONNX."""

    kind: Literal["parameter_shape"]
    inputs: Positions
    shapes: Annotated[tuple[SymbolicShape, ...], Field(strict=False, min_length=1)]
    axis: int  # from the end where it is negative

    def found(self, node: Node) -> str | None:
        given = [found for place in self.inputs for found in chosen(node, place)]
        return first(partial(self._other, node, name, value) for name, value in given)

    def _other(self, node: Node, name: str, value: Value) -> str | None:
        size = self._size(node)
        if value.shape in [tuple(size if each == "N" else each for each in shape) for shape in self.shapes]:
            return None
        return f"{name} {sides(value.shape)}; only {either(_written(self.shapes))}, N = {size}"

    def _size(self, node: Node) -> int:
        output = node.outputs[0]
        size = output.dims[self.axis] if output.dims and -output.rank <= self.axis < output.rank else None
        if not isinstance(size, int):
            raise NotKnown(f"the shape of {output.name}")
        return size


def _written(shapes: Sequence[Sequence[int | str]]) -> list[str]:
    return [sides(shape) for shape in shapes]
