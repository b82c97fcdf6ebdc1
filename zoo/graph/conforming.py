"""Nodes of ONNX's own operators have what their schema requires, so that nobody after this has to ask."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import onnx
from onnx import AttributeProto, defs

from zoo.errors import UnreadableModel
from zoo.graph.steps import steps

CURE = "export the model again"
# Optional from opset 13 on; exporters left them out before.
LEFT_OUT = frozenset({("Resize", "roi"), ("Resize", "scales")})
_SINGLE = defs.OpSchema.FormalParameterOption.Single


def check(graph: onnx.GraphProto, opsets: Mapping[str, int], place: str) -> None:
    """Raises UnreadableModel for the first node that lacks an input, output or attribute, or has one of another type.

    What it has beyond its schema is no fault here: exporters are ahead of the onnx that is installed.
    """
    for step in steps(graph):
        node = step.node
        schema = None if node.domain else _schema(node.op_type, min(opsets[""], defs.onnx_opset_version()))
        if schema is not None and (fault := next(_faults(node, schema), "")):
            where = f"node '{node.name}' ({node.op_type} of opset {opsets['']})"
            raise UnreadableModel(f"{place}: {where} {fault}; {CURE}")


def _faults(node: onnx.NodeProto, schema: defs.OpSchema) -> Iterator[str]:
    yield from _lacking(node.op_type, "input", node.input, schema.min_input, schema.inputs)
    yield from _lacking(node.op_type, "output", node.output, schema.min_output, schema.outputs)
    given = {attribute.name: attribute for attribute in node.attribute}
    for name, said in schema.attributes.items():
        if name not in given:
            if said.required:
                yield f"has no attribute '{name}'"
        elif (found := _type(given[name].type)) != (wanted := _wanted(said)):
            yield f"has the attribute '{name}' as {found}, which is {wanted} in ONNX"


def _lacking(
    op: str, what: str, names: Sequence[str], least: int, formal: Sequence[defs.OpSchema.FormalParameter]
) -> Iterator[str]:
    if len(names) < least:
        yield f"has {len(names)} of at least {least} {what}s"
    for position, (name, parameter) in enumerate(zip(names, formal, strict=False)):
        if not name and parameter.option == _SINGLE and (op, parameter.name) not in LEFT_OUT:
            yield f"leaves out its {what} {position}, {parameter.name}"


def _type(kind: int) -> str:
    return AttributeProto.AttributeType.Name(kind) if kind in AttributeProto.AttributeType.values() else str(kind)


def _wanted(said: defs.OpSchema.Attribute) -> str:
    name: str = said.type.name  # type: ignore[attr-defined]  # an enum, which its stub does not say
    return name


@cache
def _schema(op: str, opset: int) -> defs.OpSchema | None:
    """None of an operator that ONNX does not have, or not yet in that opset."""
    return defs.get_schema(op, opset) if defs.has(op, opset) else None
