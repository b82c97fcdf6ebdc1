"""ONNX models of a few nodes, a target that knows two operators, and the command `zoo`."""

import numpy as np
import onnx
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from zoo.cli import main

TARGET = """
description: Convolutions and what follows them.
sources: [{title: made up for a test}]
opset: {max: 18, export: 18}
devices:
  ONE: {aliases: [UNO]}
  TWO: {not_accelerated: [Relu]}
operators:
  Conv: {}
  Relu: {}
"""


def zoo(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def saved(*nodes: onnx.NodeProto, opset: int = 18, domains: tuple[str, ...] = ()) -> str:
    """A model of these nodes from x to y, as model.onnx; ``w`` is a kernel of eight channels to eight."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((8, 8, 1, 1), np.float32), "w")],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), "model.onnx")
    return "model.onnx"


def chain(*ops: str) -> list[onnx.NodeProto]:
    names = ["x", *(f"v{n}" for n in range(1, len(ops))), "y"]
    return [
        helper.make_node(op, [names[n], *(["w"] if op == "Conv" else [])], [names[n + 1]], name=f"{op}_{n}")
        for n, op in enumerate(ops)
    ]


def control_flow(op: str) -> str:
    inner = helper.make_tensor_value_info("inside", TensorProto.FLOAT, None)
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["inside"])], "body", [], [inner])
    truth = numpy_helper.from_array(np.array(True), "truth")
    if op == "If":
        size = [
            helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
            helper.make_node("Cast", ["sum"], ["condition"], to=TensorProto.BOOL),
        ]
        return saved(*size, helper.make_node("If", ["condition"], ["y"], then_branch=body, else_branch=body))
    step = helper.make_tensor_value_info("step", TensorProto.INT64, [])
    going, on = (helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("going", "on"))
    carried, next_ = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("carried", "next"))
    nodes = [helper.make_node("Identity", ["going"], ["on"]), helper.make_node("Relu", ["carried"], ["next"])]
    body = helper.make_graph(nodes, "body", [step, going, carried], [on, next_], [truth])
    count = helper.make_node("Constant", [], ["count"], value=numpy_helper.from_array(np.array(3)))
    return saved(count, helper.make_node("Loop", ["count", "", "x"], ["y"], body=body))
