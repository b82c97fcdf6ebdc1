"""Reshape written as devices' importers expect it, where PyTorch's exporter says more than is needed."""

import onnx
from onnx import NodeProto

from zoo.onnx.rewriting import Rewriting, attributes


def write(exported: onnx.ModelProto) -> onnx.ModelProto:
    """The same model without ``allowzero`` where it means nothing: the shape is a constant without a zero."""
    written = onnx.ModelProto()
    written.CopyFrom(exported)
    rewriting = Rewriting(written.graph)
    for node in written.graph.node:
        if node.op_type == "Reshape" and not node.domain and _never_copies(node, rewriting):
            del node.attribute[:]  # it has no other
    return written


def _never_copies(node: NodeProto, rewriting: Rewriting) -> bool:
    shape = rewriting.constant(node.input[1])
    return bool(attributes(node).get("allowzero", 0)) and shape is not None and bool((shape != 0).all())
