"""Models of one node, built with onnx.helper, and that node as limits see it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from zoo.graph.reading import read
from zoo.graph.view import Node

Shape = tuple[int | str | None, ...]
Operand = Shape | NDArray[Any] | None  # a variable of that shape, a constant, nothing
IR_VERSION = 8


def node(op: str, *operands: Operand, opset: int = 18, outputs: int = 1, **attributes: Any) -> Node:
    """One operator's node; shapes of its outputs are what ONNX infers."""
    return read(model(op, *operands, opset=opset, outputs=outputs, **attributes), one_image=False).nodes[-1]


def model(op: str, *operands: Operand, opset: int = 18, outputs: int = 1, **attributes: Any) -> onnx.ModelProto:
    names = ["" if operand is None else f"in{place}" for place, operand in enumerate(operands)]
    made = [f"out{place}" for place in range(outputs)]
    named = [(name, operand) for name, operand in zip(names, operands, strict=True) if operand is not None]
    graph = helper.make_graph(
        [helper.make_node(op, names, made, **attributes)],
        "one",
        [_info(name, shape) for name, shape in named if isinstance(shape, tuple)],
        [helper.make_value_info(name, _unknown(op)) for name in made],
        [numpy_helper.from_array(data, name) for name, data in named if isinstance(data, np.ndarray)],
    )
    return _complete(graph, opset)


def quantised(op: str, inputs: Sequence[str], output: str, shape: Shape = (1, 4, 4, 4), **attributes: Any) -> Node:
    """A node between DequantizeLinear nodes, one for each of its inputs' integer types, and a QuantizeLinear."""
    names = [f"in{place}" for place in range(len(inputs))]
    types = [helper.np_dtype_to_tensor_dtype(np.dtype(each)) for each in inputs]
    zero = [numpy_helper.from_array(np.zeros((), each), f"zero_{each}") for each in {*inputs, output}]
    nodes = [
        *(
            helper.make_node("DequantizeLinear", [name, "scale", f"zero_{each}"], [f"{name}_float"])
            for name, each in zip(names, inputs, strict=True)
        ),
        helper.make_node(op, [f"{name}_float" for name in names], ["result"], name="asked", **attributes),
        helper.make_node("QuantizeLinear", ["result", "scale", f"zero_{output}"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info(name, each, shape) for name, each in zip(names, types, strict=True)],
        [helper.make_tensor_value_info("out", helper.np_dtype_to_tensor_dtype(np.dtype(output)), None)],
        [numpy_helper.from_array(np.float32(0.1), "scale"), *zero],
    )
    return next(each for each in read(_complete(graph, 21)).nodes if each.op == op)


def _complete(graph: onnx.GraphProto, opset: int) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)


def _info(name: str, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _unknown(op: str) -> onnx.TypeProto:
    kind = TensorProto.INT64 if op in ("ArgMax", "ArgMin") else TensorProto.FLOAT
    return helper.make_tensor_type_proto(kind, None)
