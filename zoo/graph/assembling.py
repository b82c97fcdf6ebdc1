"""The linter's view of a model, put together from what was found out about it."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import onnx
from onnx import AttributeProto, helper

from zoo.graph.costs import macs
from zoo.graph.origins import origin
from zoo.graph.shapes import Known
from zoo.graph.skeleton import Skeleton
from zoo.graph.steps import Step, steps
from zoo.graph.view import Node, NotKnown, Value

_TORCH = "pytorch"
_PLAIN = frozenset(
    {AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.STRING}
    | {AttributeProto.FLOATS, AttributeProto.INTS, AttributeProto.STRINGS}
)


@dataclass(frozen=True)
class Findings:
    """A model with settled names, the opsets of its domains, and what is known of its values."""

    skeleton: Skeleton
    opsets: Mapping[str, int]
    known: Known

    @cached_property
    def listed(self) -> tuple[Step, ...]:
        """All nodes, in order."""
        return tuple(steps(self.skeleton.model.graph))

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes as the linter sees them."""
        return tuple(self._node(step) for step in self.listed)

    @property
    def inputs(self) -> tuple[Value, ...]:
        """The inputs that are not weights: until IR version 3 weights were listed among the inputs."""
        inputs = self.skeleton.model.graph.input
        return tuple(self._value(value.name) for value in inputs if value.name not in self._weights)

    @property
    def outputs(self) -> tuple[Value, ...]:
        """What the model returns."""
        return tuple(self._value(value.name) for value in self.skeleton.model.graph.output)

    @cached_property
    def _weights(self) -> frozenset[str]:
        graph = self.skeleton.model.graph
        sparse = {tensor.values.name for tensor in graph.sparse_initializer}
        return frozenset({tensor.name for tensor in graph.initializer} | sparse)

    @cached_property
    def _quantised(self) -> Mapping[str, str | None]:
        """The integer types of the values that QuantizeLinear reads and DequantizeLinear makes."""
        found: dict[str, str | None] = {}
        for node in (step.node for step in self.listed if not step.node.domain):
            if node.op_type == "QuantizeLinear" and node.input and node.output:
                found[node.input[0]] = self.known.dtypes.get(node.output[0])
            if node.op_type == "DequantizeLinear" and node.input and node.output:
                found[node.output[0]] = self.known.dtypes.get(node.input[0])
        return found

    def _value(self, name: str) -> Value:
        known = self.known
        return Value(
            name,
            known.dims.get(name),
            known.dtypes.get(name),
            known.constants.readers.get(name),
            self._quantised.get(name),
        )

    def _node(self, step: Step) -> Node:
        node = step.node
        parameters = [name for name in node.input[1:] if name in self._weights]
        rank = len(self.known.dims.get(parameters[0]) or ()) if parameters else None
        source = origin(node, parameters, rank, torch_names=self.skeleton.model.producer_name == _TORCH)
        attributes = _attributes(node, self.skeleton)
        return Node(
            name=node.name,
            op=node.op_type,
            inputs=tuple(self._value(name) if name else None for name in (*node.input, *step.returned)),
            outputs=tuple(self._value(name) for name in node.output if name),
            attributes=attributes,
            domain=node.domain,
            module=source.module,
            torch_op=source.torch_op,
            macs=macs(node, attributes, self.known.dims),
            within=step.within,
            opset=self.opsets.get(node.domain, 0),
        )


def _attributes(node: onnx.NodeProto, skeleton: Skeleton) -> Mapping[str, Any]:
    """Python values; without bodies, which are nodes of their own, and without tensors that are large or damaged."""
    found = {}
    for attribute in node.attribute:
        if attribute.type in _PLAIN and not attribute.ref_attr_name:
            found[attribute.name] = _plain(helper.get_attribute_value(attribute))
        if attribute.HasField("t") and attribute.t.data_location != onnx.TensorProto.EXTERNAL:
            with suppress(NotKnown):
                found[attribute.name] = skeleton.reader(attribute.t)()
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, str | int | float):
        return value
    return tuple(_plain(each) for each in value)
