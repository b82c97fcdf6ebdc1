"""A model of any number of images as one of a single image, which is what a device's compiler takes."""

import onnx

from zoo.graph.steps import graphs


def of_one_image(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """A copy whose inputs have a batch of one; None where no batch is dynamic."""
    constant = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constant]
    firsts = [value.type.tensor_type.shape.dim[:1] for value in inputs]
    if not any(size.dim_value < 1 for first in firsts for size in first):
        return None
    names = {size.dim_param for first in firsts for size in first if size.dim_param}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in copy.graph.input:
        for size in value.type.tensor_type.shape.dim[:1]:
            if value.name not in constant and size.dim_value < 1:
                size.dim_value = 1
    for value in _values(copy.graph):
        for size in value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else ():
            if size.dim_param in names:
                size.dim_value = 1
    return copy


def _values(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    return [value for each in graphs(graph) for value in (*each.input, *each.output, *each.value_info)]
