"""What is asked about a graph while its nodes are written anew, and what is added to it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper


class NotWritable(Exception):
    """What keeps a node from being written in the older opset, said of its operator."""


class Rewriting:
    """A graph with the types of its values; ``added`` are new constants."""

    def __init__(self, graph: GraphProto) -> None:
        self.added: list[TensorProto] = []
        self._names = {name for node in graph.node for name in (*node.input, *node.output)}
        self._constants: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.name == "value":
                    self._constants[node.output[0]] = attribute.t
        values = (*graph.input, *graph.output, *graph.value_info)
        self._types = {value.name: value.type.tensor_type for value in values}

    def constant(self, name: str) -> NDArray[Any] | None:
        """A constant's data; None of what depends on the model's input."""
        found = self._constants.get(name)
        return None if found is None else numpy_helper.to_array(found)

    def given(self, node: NodeProto, position: int) -> NDArray[Any] | None:
        """The data of an input that may be left out, which makes it None; raises NotWritable where it is computed."""
        if position >= len(node.input) or not node.input[position]:
            return None
        found = self.constant(node.input[position])
        if found is None:
            raise NotWritable(f"computes its input {position}, which has to be a constant")
        return found

    def dims(self, name: str) -> tuple[int, ...]:
        """A value's dimensions, 0 for one that is not known; raises NotWritable where not even their number is."""
        if name in self._constants:
            return tuple(self._constants[name].dims)
        if name not in self._types or not self._types[name].HasField("shape"):
            raise NotWritable("reads a tensor of unknown rank")
        return tuple(dim.dim_value for dim in self._types[name].shape.dim)

    def kind(self, name: str) -> int:
        """The type of a value's elements, as TensorProto numbers them; raises NotWritable where it is not known."""
        if name in self._constants:
            return self._constants[name].data_type
        if name not in self._types or not self._types[name].elem_type:
            raise NotWritable("reads a tensor of unknown type")
        return int(self._types[name].elem_type)

    def name(self, node: NodeProto, part: str) -> str:
        """A name that no value has, for a part of what stands for the node."""
        name = f"{node.output[0]}_{part}"
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def add(self, node: NodeProto, part: str, data: NDArray[Any]) -> str:
        """A new constant; its name."""
        tensor = numpy_helper.from_array(data, self.name(node, part))
        self.added.append(tensor)
        self._constants[tensor.name] = tensor
        return tensor.name

    def made(self, node: NodeProto, part: str, operator: str, *inputs: str, **attributes: Any) -> NodeProto:
        """A new node that makes one new value, which takes the type of the original's output."""
        made = helper.make_node(operator, inputs, [self.name(node, part)], **attributes)
        if node.output[0] in self._types:
            self._types[made.output[0]] = self._types[node.output[0]]
        return made

    def floats(self, name: str) -> "np.dtype[Any]":
        """numpy's type of a value's elements."""
        return np.dtype(helper.tensor_dtype_to_np_dtype(self.kind(name)))


def attributes(node: NodeProto) -> dict[str, Any]:
    """What a node says, by name."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def named(nodes: Sequence[NodeProto], original: NodeProto) -> Sequence[NodeProto]:
    """New nodes with the original's metadata and names of their own, the last with the original's name."""
    name, metadata = original.name, list(original.metadata_props)
    for position, node in enumerate(nodes):
        if len(nodes) > 1 or node is not original:
            node.name = name if position == len(nodes) - 1 else f"{name}_{node.op_type}_{position}"
            del node.metadata_props[:]
            node.metadata_props.extend(metadata)
    return nodes


def drop_unread(graph: GraphProto) -> None:
    """Take away constants that no node reads any more, such as axes that became attributes."""
    read = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    constants = [node for node in graph.node if node.op_type == "Constant" and not read & set(node.output)]
    for node in constants:
        graph.node.remove(node)
