"""ONNX models of a few nodes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from zoo.graph.view import Graph, Node

OPSET = 18
IMAGE = (1, 3, 8, 8)


def value(name: str, shape: Sequence[int | str | None] | None = None, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def tensor(name: str, data: Any, kind: Any = None) -> TensorProto:
    return numpy_helper.from_array(np.asarray(data, dtype=kind), name)


def weight(name: str, *shape: int) -> TensorProto:
    return tensor(name, np.linspace(-1, 1, int(np.prod(shape))).reshape(shape), np.float32)


def model(
    nodes: Sequence[NodeProto],
    initializers: Sequence[TensorProto] = (),
    *,
    inputs: Sequence[Any] = (value("x", IMAGE),),
    outputs: Sequence[Any] = (value("y"),),
    opset: int = OPSET,
    domains: Sequence[str] = (),
    **settings: Any,
) -> onnx.ModelProto:
    """One input x and one output y where nothing else is said."""
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(initializers))
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, **settings)


def node(op: str, inputs: str = "x", outputs: str = "y", **attributes: Any) -> NodeProto:
    """Inputs and outputs separated by spaces; "-" is one that is left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), **attributes)


def conv(inputs: str = "x w", outputs: str = "y", **attributes: Any) -> NodeProto:
    return node("Conv", inputs, outputs, **attributes)


def one(graph: Graph, op: str) -> Node:
    """The only node of an operator."""
    (found,) = (each for each in graph.nodes if each.op == op)
    return found


def data(graph: Graph, name: str) -> NDArray[Any]:
    """The constant that a node makes."""
    (found,) = (each for made in graph.nodes for each in made.outputs if each.name == name)
    return found.data()
