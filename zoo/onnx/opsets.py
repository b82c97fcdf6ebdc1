"""An ONNX model in an older opset than PyTorch's exporter writes."""

from collections.abc import Iterator
from typing import Any

from onnx import ModelProto, NodeProto, defs, helper, shape_inference

from zoo.errors import StepError
from zoo.onnx.older_forms import ADAPTERS
from zoo.onnx.rewriting import NotWritable, Rewriting, drop_unread, named


def lower(model: ModelProto, opset: int) -> ModelProto:
    """The same model in ``opset``, which is older than its own; the model itself stays as it is.

    An operator that the opset lacks is written as its specification defines it, one whose form changed is written in
    its older form (zoo.onnx.older_forms); each new node keeps the metadata of the one it stands for. onnx's own
    version converter drops that metadata and has no way back for HardSwish, LayerNormalization and Pad, among others.

    Raises StepError, naming the operator and the opset, for what cannot be written in it.
    """
    lowered = shape_inference.infer_shapes(model)
    rewriting = Rewriting(lowered.graph)
    written = opset_of(model)
    nodes: list[NodeProto] = []
    if lowered.functions:
        raise _refusal(lowered.functions[0].name, "is a function of the model's own", opset)
    for node in lowered.graph.node:
        try:
            older = list(_written(node, written, opset, rewriting))
        except NotWritable as error:
            raise _refusal(node.op_type, f"{error} (node {node.name})", opset) from error
        nodes += named(older, node)
    del lowered.graph.node[:]
    lowered.graph.node.extend(nodes)
    lowered.graph.initializer.extend(rewriting.added)
    drop_unread(lowered.graph)
    next(entry for entry in lowered.opset_import if entry.domain == "").version = opset
    return lowered


def opset_of(model: ModelProto) -> int:
    """The version of ONNX's own operators that a model is written in."""
    return int(next(entry.version for entry in model.opset_import if entry.domain == ""))


def oldest_ir_version(opset: int) -> int:
    """The oldest version of the file format that ONNX publishes the opset with."""
    return int(helper.find_min_ir_version_for([helper.make_opsetid("", opset)]))


def _written(node: NodeProto, written: int, opset: int, rewriting: Rewriting) -> Iterator[NodeProto]:
    """The nodes that do in the older opset what ``node``, of the opset ``written``, does."""
    if node.domain:
        yield node
        return
    if any(attribute.type in (attribute.GRAPH, attribute.GRAPHS) for attribute in node.attribute):
        raise NotWritable("has a graph of its own inside")
    if _since(node.op_type, written) == _since(node.op_type, opset):
        yield node
    elif node.op_type in ADAPTERS:
        for other in ADAPTERS[node.op_type](node, opset, rewriting):
            if other.op_type == node.op_type:
                yield _in_older_form(other, written, opset)
            else:
                yield from _written(other, written, opset, rewriting)
    elif _since(node.op_type, opset):
        yield _in_older_form(node, written, opset)
    else:
        schema = defs.get_schema(node.op_type, written)
        if node.attribute or not schema.function_body.node:
            raise NotWritable(f"is new in opset {_first(node.op_type)}")
        for other in _as_defined(node, schema, rewriting):
            yield from _written(other, schema.since_version, opset, rewriting)


def _since(operator: str, opset: int) -> int:
    """The version that an opset has of an operator; 0 of one that it lacks."""
    try:
        return int(defs.get_schema(operator, opset).since_version)
    except defs.SchemaError:
        return 0


def _first(operator: str) -> int:
    return min(
        schema.since_version
        for schema in defs.get_all_schemas_with_history()
        if schema.name == operator and not schema.domain
    )


def _in_older_form(node: NodeProto, written: int, opset: int) -> NodeProto:
    """The node with all that the older opset does not know taken off, where that changes nothing.

    Raises NotWritable where it says something that the older opset cannot.
    """
    newer, older = defs.get_schema(node.op_type, written), defs.get_schema(node.op_type, opset)
    while node.input and not node.input[-1]:
        node.input.pop()
    if len(node.input) > older.max_input:
        raise NotWritable(f"has the input '{newer.inputs[len(node.input) - 1].name}'")
    said = {attribute.name: attribute for attribute in node.attribute}
    for name, attribute in said.items():
        if name not in older.attributes:
            value = helper.get_attribute_value(attribute)
            if name not in newer.attributes or value != _default(newer, name):
                raise NotWritable(f"has {name}={value!r}")
            node.attribute.remove(attribute)
    for name in newer.attributes.keys() & older.attributes.keys() - said.keys():
        if _default(newer, name) != _default(older, name):
            node.attribute.append(helper.make_attribute(name, _default(newer, name)))
    return node


def _default(schema: defs.OpSchema, attribute: str) -> Any:
    default = schema.attributes[attribute].default_value
    return helper.get_attribute_value(default) if default.name else None


def _as_defined(node: NodeProto, schema: defs.OpSchema, rewriting: Rewriting) -> Iterator[NodeProto]:
    """An operator without attributes, as ONNX's specification defines it by others."""
    body = schema.function_body
    names = dict(zip(body.input, node.input, strict=False)) | dict(zip(body.output, node.output, strict=False))
    for part in body.node:
        for name in (*part.input, *part.output):
            if name and name not in names:
                names[name] = rewriting.name(node, name)
        other = NodeProto()
        other.CopyFrom(part)
        other.input[:] = [names.get(name, "") for name in part.input]
        other.output[:] = [names[name] for name in part.output]
        yield other


def _refusal(operator: str, fact: str, opset: int) -> StepError:
    return StepError(
        f"the model cannot be written in ONNX opset {opset}: {operator} {fact}; "
        "set export.opset to a later one, or have surgery replace it"
    )
