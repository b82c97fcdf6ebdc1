"""A model without its weights: small enough to infer shapes on, whatever the weights have.

Large tensors and those in other files are references into a list; small ones stay, since shapes follow from them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from zoo.errors import UnreadableModel
from zoo.graph.external import Stretch
from zoo.graph.view import NotKnown

SMALL = 1024  # elements
REFERENCE = "reference"  # key of the entry in a tensor's external data that holds its place in the list
LARGEST_DENSE = 2**26  # elements of a sparse tensor
_PACKED_BITS: dict[int, int] = {TensorProto.INT4: 4, TensorProto.UINT4: 4, TensorProto.FLOAT4E2M1: 4}
_PACKED_BITS |= {TensorProto.INT2: 2, TensorProto.UINT2: 2}

Held = TensorProto | Stretch | None  # the tensor as it is in the model, its place in another file, or neither is here


@dataclass(frozen=True)
class Skeleton:
    """A model of its own, free to be changed, and what its references stand for."""

    model: onnx.ModelProto
    held: tuple[Held, ...]

    def reader(self, tensor: TensorProto | onnx.SparseTensorProto) -> "Callable[[], NDArray[Any]]":
        """What reads a tensor of the skeleton; it raises NotKnown where the data are not there or damaged."""
        if isinstance(tensor, onnx.SparseTensorProto):
            return lambda: _dense(tensor, self._array(tensor.values), self._array(tensor.indices))
        return lambda: self._array(tensor)

    def _array(self, tensor: TensorProto) -> "NDArray[Any]":
        try:
            if tensor.data_location != TensorProto.EXTERNAL:
                return numpy_helper.to_array(tensor)
            held = self.held[int(tensor.external_data[0].value)]
            if held is None:
                raise NotKnown(f"the data of {tensor.name or 'a constant'}, which are in another file")
            if isinstance(held, Stretch):
                held = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=held.read())
            return numpy_helper.to_array(held)
        except (OSError, ValueError, TypeError) as error:
            raise NotKnown(
                f"the data of {tensor.name or 'a constant'}: {' '.join(str(error).split())[:200]}"
            ) from error


def nbytes(tensor: TensorProto, place: str) -> int:
    """Bytes of a tensor by its shape and type. Raises UnreadableModel where they are none."""
    if any(size < 0 for size in tensor.dims):
        raise UnreadableModel(f"{place}: tensor '{tensor.name}' has the size {min(tensor.dims)}")
    if tensor.data_type == TensorProto.STRING:
        return sum(len(text) for text in tensor.string_data)
    bits = _PACKED_BITS.get(tensor.data_type)
    if bits is None:
        try:
            bits = 8 * int(helper.tensor_dtype_to_np_dtype(tensor.data_type or -1).itemsize)  # 0 is undefined
        except (KeyError, ValueError):
            raise UnreadableModel(f"{place}: tensor '{tensor.name}' has the unknown type {tensor.data_type}") from None
    return -(-int(prod(tensor.dims)) * bits // 8)


def bodies(node: onnx.NodeProto) -> Iterator[tuple[str, onnx.GraphProto]]:
    """The graphs inside a node, each with the name of its attribute."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.name, attribute.g
        for number, graph in enumerate(attribute.graphs):
            yield f"{attribute.name}.{number}", graph


def _dense(tensor: onnx.SparseTensorProto, values: "NDArray[Any]", indices: "NDArray[Any]") -> "NDArray[Any]":
    """A sparse tensor of coordinates (N, rank) or flat indices (N,) as a plain one."""
    if prod(tensor.dims) > LARGEST_DENSE:
        raise NotKnown(f"the data of {tensor.values.name}, which are too many")
    try:
        dense = np.zeros(tuple(tensor.dims), dtype=values.dtype)
        if indices.ndim == 1:
            dense.reshape(-1)[indices] = values
        else:
            dense[tuple(indices.T)] = values
    except (IndexError, ValueError) as error:
        raise NotKnown(f"the data of {tensor.values.name}: {error}") from error
    return dense
