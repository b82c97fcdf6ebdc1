"""Attributes and the inputs that later opsets made of them, with ONNX's defaults of the node's opset.

Defaults are those of the schemas that the onnx package carries.
"""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from zoo.graph.view import Node, NotKnown

if TYPE_CHECKING:
    from onnx.defs import OpSchema

# Before Resize-11 there is no choice; its specification says that the old operators do this.
AS_BEFORE_RESIZE_11 = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def attribute(node: Node, name: str) -> Any | None:
    """An attribute's value or default; None where the operator has no such attribute or no default of it.

    Raises NotKnown where the node's opset, which decides the default, is not told.
    """
    if name in node.attributes:
        return node.attributes[name]
    schema = _schema_of(node)
    if _resizes_as_before_11(node) and name in AS_BEFORE_RESIZE_11:
        return AS_BEFORE_RESIZE_11[name]
    return _defaults(schema).get(name) if schema else None


def parameter(node: Node, name: str) -> Any | None:
    """A parameter as a Python value, be it an attribute or a constant input of that name; None where it is left out.

    Raises NotKnown where it is an input that is no constant, or where the node's opset is not told.
    """
    if name in node.attributes:
        return node.attributes[name]
    position = input_named(node, name)
    if position is None:
        return attribute(node, name)
    value = node.inputs[position] if position < len(node.inputs) else None
    return None if value is None else value.data().tolist()


def input_named(node: Node, name: str) -> int | None:
    """The position of an input by ONNX's name of it, in any case; None where the operator has none of that name."""
    schema = _schema_of(node)
    names = [each.name.lower() for each in schema.inputs] if schema else []
    return names.index(name.lower()) if name.lower() in names else None


def opset(node: Node) -> int:
    """The opset of the node's domain. Raises NotKnown."""
    if node.opset < 1:
        raise NotKnown(f"the opset of {node.op}")
    return node.opset


def _resizes_as_before_11(node: Node) -> bool:
    return not node.domain and (node.op == "Upsample" or (node.op == "Resize" and node.opset < 11))


def _schema_of(node: Node) -> "OpSchema | None":
    return _schema(node.op, node.domain, opset(node))


@cache
def _schema(op: str, domain: str, opset: int) -> "OpSchema | None":
    from onnx import defs

    try:
        return defs.get_schema(op, opset, domain)
    except defs.SchemaError:
        return None


@cache
def _defaults(schema: "OpSchema") -> Mapping[str, Any]:
    from onnx import AttributeProto, helper

    given = {name: each.default_value for name, each in schema.attributes.items()}
    values = {
        name: helper.get_attribute_value(value)
        for name, value in given.items()
        if value.type != AttributeProto.UNDEFINED
    }
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}
