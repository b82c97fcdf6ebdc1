"""Means over the whole plane as the global pools that they were in PyTorch, whose exporter writes them as means."""

import onnx
from onnx import helper, numpy_helper

from zoo.onnx.rewriting import drop_unread

# Pixels. Devices that take means at all take larger ones better as means: TIDL 10 and later pool up to this many.
LARGEST_PLANE = 1024
_PLANE = {2, 3}
_RANK = 4


def write_global_pools(model: onnx.ModelProto) -> None:
    """In place: ReduceMean over height and width of (N, C, H, W) becomes GlobalAveragePool, the same function.

    A Flatten follows where the mean drops its axes. Planes whose size is not known or larger stay.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    values = {value.name: value.type.tensor_type for value in (*graph.input, *graph.value_info)}
    nodes = []
    for node in graph.node:
        nodes.append(node)
        if node.op_type != "ReduceMean" or not _is_of_plane(node, constants) or not _fits(values.get(node.input[0])):
            continue
        keeps = all(entry.i for entry in node.attribute if entry.name == "keepdims")
        node.op_type = "GlobalAveragePool"
        del node.attribute[:], node.input[1:]
        if not keeps:
            flat = helper.make_node(
                "Flatten", [f"{node.output[0]}_pooled"], list(node.output), f"{node.name}_flatten", axis=1
            )
            flat.metadata_props.extend(node.metadata_props)
            node.output[0] = flat.input[0]
            nodes.append(flat)
    copies = onnx.GraphProto(node=nodes)
    del graph.node[:]
    graph.node.extend(copies.node)
    drop_unread(graph)  # the axes


def _is_of_plane(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    if len(node.input) > 1:
        found = constants.get(node.input[1])
        axes = None if found is None else set(numpy_helper.to_array(found).tolist())
    else:
        axes = next((set(entry.ints) for entry in node.attribute if entry.name == "axes"), None)
    return axes is not None and {axis % _RANK for axis in axes} == _PLANE


def _fits(value: onnx.TypeProto.Tensor | None) -> bool:
    dims = [] if value is None else [size.dim_value for size in value.shape.dim]
    return len(dims) == _RANK and 0 < dims[2] * dims[3] <= LARGEST_PLANE
