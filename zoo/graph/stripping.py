"""Making a skeleton of a model: structure is copied, what is large is kept aside."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from zoo.errors import UnreadableModel
from zoo.graph.external import Stretch, stretch
from zoo.graph.skeleton import REFERENCE, SMALL, Held, Skeleton, nbytes


def strip(model: onnx.ModelProto, folder: Path | None, place: str) -> Skeleton:
    """The model without its weights, itself untouched; ``folder`` holds the files of external data.

    Raises UnreadableModel where a tensor's place, shape or type is not valid.
    """
    held: list[Held] = []
    light = onnx.ModelProto(ir_version=model.ir_version, producer_name=model.producer_name)
    light.opset_import.extend(model.opset_import)
    hold = _Hold(held, folder, place)
    hold.graph(model.graph, light.graph)
    for function in model.functions:
        hold.function(function, light.functions.add())
    return Skeleton(light, tuple(held))


@dataclass(frozen=True)
class _Hold:
    """Copies structure and keeps aside what is large."""

    held: list[Held]
    folder: Path | None
    place: str

    def graph(self, source: onnx.GraphProto, target: onnx.GraphProto) -> None:
        target.name = "graph"
        for node in source.node:
            self.node(node, target.node.add())
        target.input.extend(source.input)
        target.output.extend(source.output)
        target.value_info.extend(source.value_info)
        for tensor in source.initializer:
            self.tensor(tensor, target.initializer.add())
        for sparse in source.sparse_initializer:
            self.sparse(sparse, target.sparse_initializer.add())

    def function(self, source: onnx.FunctionProto, target: onnx.FunctionProto) -> None:
        for descriptor, value in source.ListFields():
            if descriptor.name != "node":
                _set(target, descriptor, value)
        for node in source.node:
            self.node(node, target.node.add())

    def node(self, source: onnx.NodeProto, target: onnx.NodeProto) -> None:
        if not any(_holds_tensors(attribute) for attribute in source.attribute):
            target.CopyFrom(source)
            return
        for descriptor, value in source.ListFields():
            if descriptor.name != "attribute":
                _set(target, descriptor, value)
        for attribute in source.attribute:
            self.attribute(attribute, target.attribute.add())

    def attribute(self, source: onnx.AttributeProto, target: onnx.AttributeProto) -> None:
        if not _holds_tensors(source):
            target.CopyFrom(source)
            return
        target.name, target.type = source.name, source.type
        if source.HasField("t"):
            self.tensor(source.t, target.t)
        if source.HasField("sparse_tensor"):
            self.sparse(source.sparse_tensor, target.sparse_tensor)
        if source.HasField("g"):
            self.graph(source.g, target.g)
        for tensor in source.tensors:
            self.tensor(tensor, target.tensors.add())
        for graph in source.graphs:
            self.graph(graph, target.graphs.add())

    def sparse(self, source: onnx.SparseTensorProto, target: onnx.SparseTensorProto) -> None:
        target.dims.extend(source.dims)
        self.tensor(source.values, target.values)
        self.tensor(source.indices, target.indices)

    def tensor(self, source: TensorProto, target: TensorProto) -> None:
        size = nbytes(source, self.place)
        external = source.data_location == TensorProto.EXTERNAL
        if not external and source.HasField("raw_data") and source.ByteSize() < size:
            raise UnreadableModel(f"{self.place}: tensor '{source.name}' has fewer bytes than its shape and type take")
        if not external and prod(source.dims) <= SMALL:
            target.CopyFrom(source)
            return
        target.name, target.data_type = source.name, source.data_type
        target.dims.extend(source.dims)
        found: Held = source
        if external:
            found = stretch(source, size, self.folder, self.place) if self.folder else None
        if isinstance(found, Stretch) and prod(source.dims) <= SMALL:
            try:
                target.raw_data = found.read()
            except OSError as error:
                raise UnreadableModel(
                    f"{self.place}: tensor '{source.name}': its data cannot be read: {error}"
                ) from None
            return
        target.data_location = TensorProto.EXTERNAL
        target.external_data.add(key=REFERENCE, value=str(len(self.held)))
        self.held.append(found)


def _holds_tensors(attribute: onnx.AttributeProto) -> bool:
    single = any(attribute.HasField(field) for field in ("t", "g", "sparse_tensor"))
    return single or bool(attribute.tensors) or bool(attribute.graphs)


def _set(target: Any, descriptor: Any, value: Any) -> None:
    if hasattr(value, "extend"):
        getattr(target, descriptor.name).extend(value)
    else:
        setattr(target, descriptor.name, value)
