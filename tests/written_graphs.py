"""Graphs and targets of a few nodes, written down for tests of the linter."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.graph.view import Dimension, Graph, Node, Value
from zoo.targets.target import Target

Make = Callable[[Callable[[str], Value]], Node]
DIMS = (1, 8, 4, 4)  # of every value that is not said to be of another shape


def node(op: str, inputs: str, outputs: str, *, name: str = "", opset: int = 18, **said: Any) -> Make:
    """``node("Mul", "x y", "z")``; "-" is an input that is left out. What Node has no field for is an attribute."""
    fields = {key: said.pop(key) for key in list(said) if key in Node.__dataclass_fields__}
    fields.setdefault("macs", 0)

    def make(value: Callable[[str], Value]) -> Node:
        read = tuple(None if each == "-" else value(each) for each in inputs.split())
        made = tuple(value(each) for each in outputs.split())
        return Node(name or outputs.split()[0], op, read, made, said, opset=opset, **fields)

    return make


def graph_of(
    *nodes: Make,
    inputs: Sequence[str] = ("x",),
    outputs: Sequence[str] = ("y",),
    constants: Mapping[str, Any] | None = None,
    dims: Mapping[str, tuple[Dimension, ...] | None] | None = None,
    **fields: Any,
) -> Graph:
    """A graph of nodes in their order. ``constants`` are numbers, lists and arrays, also of nodes that make some."""
    data = {name: np.asarray(each) for name, each in (constants or {}).items()}

    def value(name: str) -> Value:
        if name in data:
            return Value(name, data[name].shape, str(data[name].dtype), constant_of(data[name]))
        return Value(name, (dims or {}).get(name, DIMS), "float32")

    said = {"opsets": {"": 18}, "ir_version": 9} | fields
    return Graph(tuple(make(value) for make in nodes), *(tuple(map(value, each)) for each in (inputs, outputs)), **said)


def constant_of(data: NDArray[Any]) -> Callable[[], NDArray[Any]]:
    return lambda: data


def target_of(*accelerated: str, **said: Any) -> Target:
    """A target that accelerates these operators, and what else is said of it as a profile would."""
    operators = {op: {} for op in accelerated} | said.pop("operators", {})
    opset = {"max": 20, "export": 18} | said.pop("opset", {})
    made = {"description": "For tests.", "sources": [{"title": "None."}], "opset": opset, "operators": operators}
    return Target.model_validate(made | said)


def limited(*limits: Mapping[str, Any], **said: Any) -> dict[str, Any]:
    """An operator's entry in a profile, with limits."""
    return {"limits": list(limits), **said}
