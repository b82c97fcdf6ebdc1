"""Multiply-accumulates of a node, by its shapes.

Counted are the operators whose work is multiplications with weights or between activations; what is done once for each
element (activations, additions, pooling, resizing, normalisation) counts as none, as in the usual figures of models.
https://onnx.ai/onnx/operators/
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import onnx

from zoo.graph.view import Dimension

Dims = Mapping[str, tuple[Dimension, ...] | None]
Shape = tuple[int, ...]


class _Unknown(Exception):
    """A shape that the cost depends on is not known."""


def macs(node: onnx.NodeProto, attributes: Mapping[str, Any], dims: Dims) -> int | None:
    """Multiply-accumulates of one run of the node; None where shapes or operator do not tell.

    The bodies of If, Loop and Scan count for themselves, once.
    """
    if node.domain:
        return None
    if node.op_type not in _COSTS:
        return 0
    try:
        return _COSTS[node.op_type](node, attributes, dims)
    except _Unknown:
        return None


def _shape(names: Any, position: int, dims: Dims) -> Shape:
    found = dims.get(names[position]) if position < len(names) else None
    sizes = tuple(size for size in found or () if isinstance(size, int))
    if found is None or len(sizes) < len(found):
        raise _Unknown
    return sizes


def _convolution(weight: int) -> "Cost":
    """Each element of the output takes (C / group) x kernel multiplications; the weight is (M, C / group, *kernel)."""
    return lambda node, _, dims: prod(_shape(node.output, 0, dims)) * prod(_shape(node.input, weight, dims)[1:])


def _transposed(node: onnx.NodeProto, _: Mapping[str, Any], dims: Dims) -> int:
    """Each element of the input takes (M / group) x kernel multiplications; the weight is (C, M / group, *kernel)."""
    return prod(_shape(node.input, 0, dims)) * prod(_shape(node.input, 1, dims)[1:])


def _product(left: int) -> "Cost":
    """Each element of a matrix product's output takes as many multiplications as the left matrix has columns."""
    return lambda node, _, dims: prod(_shape(node.output, 0, dims)) * prod(_shape(node.input, left, dims)[-1:])


def _gemm(node: onnx.NodeProto, attributes: Mapping[str, Any], dims: Dims) -> int:
    left = _shape(node.input, 0, dims)
    if len(left) != 2:
        raise _Unknown
    return prod(_shape(node.output, 0, dims)) * left[0 if attributes.get("transA") else 1]


def _einsum(node: onnx.NodeProto, attributes: Mapping[str, Any], dims: Dims) -> int:
    """Of two operands: one multiplication for each combination of indices. Longer ones depend on the order taken."""
    terms = str(attributes.get("equation", "")).replace(" ", "").split("->")[0].split(",")
    if len(terms) == 1:
        return 0
    if len(terms) > 2 or any("." in term for term in terms):
        raise _Unknown
    sizes: dict[str, int] = {}
    for position, term in enumerate(terms):
        shape = _shape(node.input, position, dims)
        if len(shape) != len(term):
            raise _Unknown
        for index, size in zip(term, shape, strict=True):
            sizes[index] = max(size, sizes.get(index, 1))
    return prod(sizes.values())


def _recurrent(node: onnx.NodeProto, attributes: Mapping[str, Any], dims: Dims) -> int:
    """At each place of the sequence, for each of the batch, all of the input's and the state's weights."""
    sequence = _shape(node.input, 0, dims)
    return prod(sequence[:2]) * (prod(_shape(node.input, 1, dims)) + prod(_shape(node.input, 2, dims)))


def _untold(node: onnx.NodeProto, attributes: Mapping[str, Any], dims: Dims) -> int:
    raise _Unknown


Cost = Callable[[onnx.NodeProto, Mapping[str, Any], Dims], int]

_COSTS: Mapping[str, Cost] = {
    **dict.fromkeys(("Conv", "ConvInteger", "DeformConv"), _convolution(1)),
    **dict.fromkeys(("MatMul", "MatMulInteger"), _product(0)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    **dict.fromkeys(("Attention", "LinearAttention", "CausalConvWithState"), _untold),
    "ConvTranspose": _transposed,
    "QLinearConv": _convolution(3),
    "QLinearMatMul": _product(0),
    "Gemm": _gemm,
    "Einsum": _einsum,
}
