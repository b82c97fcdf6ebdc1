"""What must hold of a model before anything else looks at it: its names are text, nothing lacks its kind."""

from collections.abc import Iterable, Iterator

import onnx
from onnx import AttributeProto

from zoo.errors import UnreadableModel
from zoo.graph.skeleton import bodies


def check(model: onnx.ModelProto, place: str) -> None:
    """Raises UnreadableModel. Protobuf gives what is not valid UTF-8 as bytes; what cannot be printed is no name."""
    for what, names in _texts(model):
        for name in names:
            if not isinstance(name, str) or not name.isprintable():
                raise UnreadableModel(f"{place}: the name {name!a} of {what} is no text; the file is damaged")
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        for node in _all(nodes):
            if not node.op_type:
                raise UnreadableModel(f"{place}: the node that makes '{', '.join(node.output)}' has no operator")
            for attribute in node.attribute:
                if attribute.type == AttributeProto.UNDEFINED:
                    where = f"{node.op_type} '{node.name}'"
                    raise UnreadableModel(f"{place}: the attribute '{attribute.name}' of {where} has no type")


def _all(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for _, body in bodies(node):
            yield from _all(body.node)


def _texts(model: onnx.ModelProto) -> Iterator[tuple[str, Iterable[object]]]:
    yield "a domain", (entry.domain for entry in model.opset_import)
    for function in model.functions:
        yield "a function", (function.name, function.domain, *function.input, *function.output)
        yield from _of_nodes(function.node)
    yield from _of_graph(model.graph)


def _of_graph(graph: onnx.GraphProto) -> Iterator[tuple[str, Iterable[object]]]:
    yield "a tensor", (tensor.name for tensor in graph.initializer)
    yield "a tensor", (sparse.values.name for sparse in graph.sparse_initializer)
    values = (*graph.input, *graph.output, *graph.value_info)
    yield "a value", (value.name for value in values)
    shapes = (value.type.tensor_type.shape for value in values if value.type.HasField("tensor_type"))
    yield "a dimension", (size.dim_param for shape in shapes for size in shape.dim)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[tuple[str, Iterable[object]]]:
    for node in nodes:
        yield "a node", (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield "an attribute", (name for entry in node.attribute for name in (entry.name, entry.ref_attr_name))
        for _, body in bodies(node):
            yield from _of_graph(body)
