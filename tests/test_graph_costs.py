"""Multiply-accumulates of nodes, each next to its formula written out."""

from collections.abc import Sequence
from typing import Any

import pytest
from onnx import NodeProto, TensorProto
from small_graphs import conv, model, node, tensor, value, weight

from zoo.graph.reading import read


def cost(made: NodeProto, shapes: Sequence[Sequence[Any]], *weights: TensorProto) -> int | None:
    """Of one node that reads weights and, of the shapes given, its other inputs."""
    names = [name for name in made.input if name not in {each.name for each in weights}]
    inputs = [value(name, shape) for name, shape in zip(names, shapes, strict=True)]
    return read(model([made], weights, inputs=inputs)).nodes[-1].macs


@pytest.mark.parametrize(
    ("made", "kernel", "expected"),
    [
        (conv(), weight("w", 4, 6, 3, 3), (4 * 6 * 6) * (6 * 3 * 3)),
        (conv(strides=[2, 2]), weight("w", 4, 6, 3, 3), (4 * 3 * 3) * (6 * 3 * 3)),
        (conv(group=6), weight("w", 6, 1, 3, 3), (6 * 6 * 6) * (3 * 3)),
        (conv(group=2, dilations=[2, 2]), weight("w", 4, 3, 3, 3), (4 * 4 * 4) * (3 * 3 * 3)),
        (node("ConvTranspose", "x w", strides=[2, 2]), weight("w", 6, 4, 2, 2), (6 * 8 * 8) * (4 * 2 * 2)),
        (node("ConvTranspose", "x w", group=2), weight("w", 6, 2, 3, 3), (6 * 8 * 8) * (2 * 3 * 3)),
    ],
)
def test_convolutions(made: NodeProto, kernel: TensorProto, expected: int) -> None:
    assert cost(made, [(1, 6, 8, 8)], kernel) == expected


@pytest.mark.parametrize(
    ("made", "shapes", "expected"),
    [
        (node("Gemm", "a b"), [(2, 5), (5, 3)], 2 * 5 * 3),
        (node("Gemm", "a b", transA=1, transB=1), [(5, 2), (3, 5)], 2 * 5 * 3),
        (node("MatMul", "a b"), [(7, 2, 5), (5, 3)], 7 * 2 * 5 * 3),
        (node("MatMul", "a b"), [(2, 1, 4, 5), (3, 5, 6)], 2 * 3 * 4 * 5 * 6),
        (node("MatMul", "a b"), [(5,), (5,)], 5),
        (node("MatMul", "a b"), [(4, 5), (5,)], 4 * 5),
        (node("Einsum", "a b", equation="bij, bjk -> bik"), [(2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5),
        (node("Einsum", "a b", equation="i,j"), [(3,), (4,)], 3 * 4),
        (node("Einsum", "a", equation="ij->ji"), [(3, 4)], 0),
        (node("Einsum", "a b", equation="...i,i->..."), [(3, 4), (4,)], None),
        (node("Einsum", "a b c", equation="i,i,i->i"), [(3,), (3,), (3,)], None),
        (node("Einsum", "a b", equation="ij,i->j"), [(3, 4, 5), (3,)], None),
        (node("LSTM", "a w r", "y", hidden_size=6), [(9, 2, 5), (1, 24, 5), (1, 24, 6)], 9 * 2 * 24 * (5 + 6)),
        (node("Attention", "a b c"), [(1, 2, 4, 8)] * 3, None),
        (node("Add", "a b"), [(3, 4), (3, 4)], 0),
        (node("AveragePool", "a", kernel_shape=[2, 2]), [(1, 3, 8, 8)], 0),
        (node("Fancy", "a", domain="my"), [(3, 4)], None),
    ],
)
def test_other_operators(made: NodeProto, shapes: list[Any], expected: int | None) -> None:
    assert cost(made, shapes) == expected


@pytest.mark.parametrize(
    "made",
    [conv("a b"), node("ConvTranspose", "a b"), node("Gemm", "a b"), node("MatMul", "a b"), node("LSTM", "a b b")],
)
def test_without_shapes_the_cost_is_not_known(made: NodeProto) -> None:
    names = dict.fromkeys(made.input)
    assert read(model([made], inputs=[value(name) for name in names])).nodes[0].macs is None


def test_products_of_integers() -> None:
    quantised = [tensor("s", 0.1, "float32"), tensor("z", 0, "uint8")]
    made = node("QLinearMatMul", "a s z b s z s z")
    inputs = [value("a", (2, 5), TensorProto.UINT8), value("b", (5, 3), TensorProto.UINT8)]
    outputs = [value("y", None, TensorProto.UINT8)]
    assert read(model([made], quantised, inputs=inputs, outputs=outputs)).nodes[0].macs == 2 * 5 * 3
