"""ONNX's own shape inference, which must not fail the reading of a model."""

from collections.abc import Iterator, Mapping

import onnx
from onnx import helper, shape_inference

from zoo.graph.steps import graphs, steps

LONGEST = 2**20  # elements of a list that may be the data of a shape
SHOWN = 300  # characters of a complaint


def importable(model: onnx.ModelProto, opsets: Mapping[str, int]) -> onnx.ModelProto:
    """A copy that imports every domain it uses, without which inference would give up."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.opset_import[:]
    del copy.functions[:]
    domains = {step.node.domain for step in steps(model.graph)} | opsets.keys()
    copy.opset_import.extend(helper.make_opsetid(domain, opsets.get(domain, 1)) for domain in sorted(domains))
    return copy


def infer(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """The model with all shapes that can be inferred, and what inference complains about."""
    # Following the data of shapes has errors of its own, which are none of the model's where the shapes agree without.
    without_data, failure = _inferred(model, strict=True, data=False)
    if any(map(_is_long, _told(without_data.graph))):
        return (_inferred(model, strict=False, data=False)[0] if failure else without_data), failure
    inferred, failure_of_data = _inferred(model, strict=True, data=True)
    if not failure_of_data:
        return inferred, ""
    return _inferred(model, strict=False, data=True)[0], failure


def _told(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    for each in graphs(graph):
        yield from (*each.input, *each.output, *each.value_info)


def _is_long(value: onnx.ValueInfoProto) -> bool:
    """Whether it is a list so long that memory would not hold a copy: the library makes one to follow its data."""
    sizes = value.type.tensor_type.shape.dim
    return len(sizes) == 1 and sizes[0].dim_value > LONGEST


def _inferred(model: onnx.ModelProto, *, strict: bool, data: bool) -> tuple[onnx.ModelProto, str]:
    # The library raises errors of every kind on models that it does not know; without it shapes are only not known.
    try:
        return shape_inference.infer_shapes(model, strict_mode=strict, data_prop=data), ""
    except Exception as error:
        return model, " ".join(str(error).split())[:SHOWN]
