"""ONNX operators in the forms they had before: how opset 18 is said in 11 to 17.

Each adapter takes a node of opset 18 and gives nodes that do the same in ``opset``. One of the same operator is in its
older form; one of another operator is again of opset 18. Source: the changelog of operators in ONNX's specification.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from onnx import NodeProto, defs, helper, numpy_helper

from zoo.onnx.rewriting import NotWritable, Rewriting, attributes

Adapter = Callable[[NodeProto, int, Rewriting], Iterator[NodeProto]]


def axes_as_attribute(node: NodeProto, opset: int, rewriting: Rewriting) -> Iterator[NodeProto]:
    """Reductions before 18 and, before 13, ReduceSum, Squeeze and Unsqueeze: axes are no input."""
    axes = rewriting.given(node, 1)
    said = attributes(node)
    if (axes is None or not axes.size) and said.pop("noop_with_empty_axes", 0):
        yield helper.make_node("Identity", node.input[:1], node.output)
        return
    said.pop("noop_with_empty_axes", None)
    if axes is not None and axes.size:
        said["axes"] = axes.tolist()
    yield helper.make_node(node.op_type, node.input[:1], node.output, **said)


def split(node: NodeProto, opset: int, rewriting: Rewriting) -> Iterator[NodeProto]:
    """Before 18 sizes are said in place of a number of parts, before 13 as an attribute."""
    said = attributes(node)
    parts = said.pop("num_outputs", len(node.output))
    sizes = rewriting.given(node, 1)
    if sizes is None:
        whole = rewriting.dims(node.input[0])[said.get("axis", 0)]
        if not whole:
            raise NotWritable("divides a dimension of unknown size")
        each = -(-whole // parts)
        sizes = np.array([*[each] * (parts - 1), whole - each * (parts - 1)], np.int64)
    if opset < 13:
        yield helper.make_node("Split", node.input[:1], node.output, split=sizes.tolist(), **said)
    else:
        data = (node.input[0], rewriting.add(node, "sizes", sizes))
        yield helper.make_node("Split", data, node.output, **said)


def over_last_axis(node: NodeProto, opset: int, rewriting: Rewriting) -> Iterator[NodeProto]:
    """Softmax and its like before 13: over all axes from the one that is said, so only the last one is alone."""
    rank = len(rewriting.dims(node.input[0]))
    axis = attributes(node).get("axis", -1) % rank
    if axis == rank - 1:
        yield helper.make_node(node.op_type, node.input, node.output, axis=axis)
        return
    swapped = [rank - 1 if at == axis else axis if at == rank - 1 else at for at in range(rank)]
    first = rewriting.made(node, "turned", "Transpose", node.input[0], perm=swapped)
    middle = rewriting.made(node, "of_last_axis", node.op_type, first.output[0], axis=rank - 1)
    yield from (first, middle, helper.make_node("Transpose", middle.output, node.output, perm=swapped))


def resize(node: NodeProto, opset: int, rewriting: Rewriting) -> Iterator[NodeProto]:
    """In 11 the region of interest and the factors are always given, if as nothing."""
    if opset < 13:
        while len(node.input) < 3:
            node.input.append("")
        for position, part in ((1, "roi"), (2, "factors")):
            if not node.input[position]:
                node.input[position] = rewriting.add(node, part, np.zeros(0, np.float32))
    yield node


def pad(node: NodeProto, opset: int, rewriting: Rewriting) -> Iterator[NodeProto]:
    """Before 18 every axis is padded, most by nothing."""
    axes = rewriting.given(node, 3)
    if axes is not None:
        amounts = rewriting.given(node, 1)
        rank = len(rewriting.dims(node.input[0]))
        assert amounts is not None  # the specification demands it
        all_axes = np.zeros((2, rank), np.int64)
        all_axes[:, axes % rank] = amounts.reshape(2, -1)
        node.input[1] = rewriting.add(node, "pads", all_axes.reshape(-1))
        del node.input[3:]
    yield node


def reshape(node: NodeProto, opset: int, rewriting: Rewriting) -> Iterator[NodeProto]:
    """Before 14 a zero in the shape copies the input's dimension.

    Where the shape is computed a zero can only come of a dimension of the model's input that is empty, as no image is.
    """
    said = attributes(node)
    shape = rewriting.constant(node.input[1])
    if said.get("allowzero", 0) and shape is not None and (shape == 0).any():
        raise NotWritable("makes an empty tensor")
    yield helper.make_node("Reshape", node.input, node.output)


def shape(node: NodeProto, opset: int, rewriting: Rewriting) -> Iterator[NodeProto]:
    """Before 15 the whole shape, of which a part is then taken."""
    said = attributes(node)
    start, end = said.get("start", 0), said.get("end")
    if start == 0 and end is None:
        yield helper.make_node("Shape", node.input, node.output)
        return
    whole = rewriting.made(node, "whole", "Shape", node.input[0])
    last = np.iinfo(np.int64).max if end is None else end
    ends = [rewriting.add(node, part, np.array([at], np.int64)) for part, at in (("start", start), ("end", last))]
    yield from (whole, helper.make_node("Slice", [whole.output[0], *ends], node.output))


def cast_like(node: NodeProto, opset: int, rewriting: Rewriting) -> Iterator[NodeProto]:
    """Before 15 the type is said."""
    yield helper.make_node("Cast", node.input[:1], node.output, to=rewriting.kind(node.input[1]))


def constant(node: NodeProto, opset: int, rewriting: Rewriting) -> Iterator[NodeProto]:
    """Before 12 a tensor always."""
    ((name, value),) = attributes(node).items()
    if name == "value":
        yield node
    elif name in ("value_int", "value_ints", "value_float", "value_floats"):
        data = np.array(value, np.int64 if "int" in name else np.float32)
        yield helper.make_node("Constant", [], node.output, value=numpy_helper.from_array(data))
    else:
        raise NotWritable(f"has {name}")


def layer_normalization(node: NodeProto, opset: int, rewriting: Rewriting) -> Iterator[NodeProto]:
    """Before 17 in the operators that its specification names, one for each operation, as importers know the pattern.

    (x - mean) / sqrt(mean((x - mean)^2) + epsilon) * scale + bias
    """
    said = attributes(node)
    data, output = node.input[0], node.output[0]
    if len([name for name in node.output if name]) > 1:
        raise NotWritable("gives its mean or deviation")
    rank, kind = len(rewriting.dims(data)), rewriting.floats(data)
    axes = rewriting.add(node, "axes", np.arange(said.get("axis", -1) % rank, rank) - rank)
    two = rewriting.add(node, "two", np.array(2, kind))
    epsilon = rewriting.add(node, "epsilon", np.array(said.get("epsilon", 1e-5), kind))

    def made(part: str, operator: str, *inputs: str) -> NodeProto:
        return rewriting.made(node, part, operator, *inputs)

    steps = [made("mean", "ReduceMean", data, axes)]
    steps.append(centred := made("centred", "Sub", data, steps[-1].output[0]))
    steps.append(made("squared", "Pow", centred.output[0], two))
    steps.append(made("variance", "ReduceMean", steps[-1].output[0], axes))
    steps.append(made("above_zero", "Add", steps[-1].output[0], epsilon))
    steps.append(made("deviation", "Sqrt", steps[-1].output[0]))
    steps.append(made("normalised", "Div", centred.output[0], steps[-1].output[0]))
    steps.append(made("scaled", "Mul", steps[-1].output[0], node.input[1]))
    if len(node.input) > 2 and node.input[2]:
        steps.append(made("moved", "Add", steps[-1].output[0], node.input[2]))
    steps[-1].output[0] = output
    yield from steps


REDUCTIONS = sorted({schema.name for schema in defs.get_all_schemas() if schema.name.startswith("Reduce")})
ADAPTERS: Mapping[str, Adapter] = {
    **dict.fromkeys((*REDUCTIONS, "Squeeze", "Unsqueeze"), axes_as_attribute),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), over_last_axis),
    "CastLike": cast_like,
    "Constant": constant,
    "LayerNormalization": layer_normalization,
    "Pad": pad,
    "Reshape": reshape,
    "Resize": resize,
    "Shape": shape,
    "Split": split,
}
