"""Which of a node's tensors a limit speaks of."""

from typing import Annotated, Literal

from pydantic import Field

from zoo.graph.view import Node, Value

Position = Annotated[int, Field(ge=0)]
Of = (
    Position | Literal["variables", "constants", "outputs", "tensors"]
)  # tensors: variables and outputs; a number: an input


def chosen(node: Node, of: Of) -> tuple[tuple[str, Value], ...]:
    """The tensors, each with what it is called; an input that is left out is not among them."""
    inputs = [(f"input {place}", value) for place, value in enumerate(node.inputs) if value is not None]
    outputs = [("output" if len(node.outputs) == 1 else f"output {i}", value) for i, value in enumerate(node.outputs)]
    if isinstance(of, int):
        return tuple((name, value) for name, value in inputs if name == f"input {of}")
    variables = [(name, value) for name, value in inputs if not value.is_constant]
    constants = [(name, value) for name, value in inputs if value.is_constant]
    groups = {"variables": variables, "constants": constants, "outputs": outputs, "tensors": [*variables, *outputs]}
    return tuple(groups[of])
