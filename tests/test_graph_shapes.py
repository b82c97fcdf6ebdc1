"""Shapes and constants: what follows from the file is known, what does not is said."""

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper
from small_graphs import IMAGE, conv, data, model, node, one, tensor, value, weight

from zoo.graph.reading import read
from zoo.graph.view import NotKnown

DYNAMIC = ("N", 3, 8, 8)


def constant(name: str, **attributes: Any) -> NodeProto:
    return node("Constant", "", name, **attributes)


def test_shapes_are_inferred() -> None:
    graph = read(model([conv("x w", "a", strides=[2, 2]), node("Relu", "a")], [weight("w", 4, 3, 3, 3)]))
    assert (graph.outputs[0].dims, graph.outputs[0].dtype) == ((1, 4, 3, 3), "float32")
    assert one(graph, "Conv").attributes == {"strides": (2, 2)}


def test_dynamic_sizes_keep_their_names() -> None:
    graph = read(model([conv()], [weight("w", 4, 3, 1, 1)], inputs=[value("x", ("N", 3, "high", None))]))
    assert graph.inputs[0].dims == (1, 3, "high", None)
    assert graph.outputs[0].dims == (1, 4, None, None)
    assert graph.nodes[0].macs is None
    with pytest.raises(NotKnown, match="the shape of y"):
        _ = graph.outputs[0].shape


def test_a_dynamic_batch_is_one_image() -> None:
    graph = read(model([conv()], [weight("w", 4, 3, 1, 1)], inputs=[value("x", DYNAMIC)]))
    assert graph.outputs[0].dims == (1, 4, 8, 8)
    assert graph.nodes[0].macs == 4 * 8 * 8 * 3
    assert graph.notes == ("The batch is dynamic; the model is looked at as one of a single image.",)


def test_a_model_without_shapes() -> None:
    graph = read(model([node("Relu", "x", "a"), node("Sigmoid", "a")], inputs=[value("x")]))
    assert [each.dims for each in (*graph.inputs, *graph.outputs)] == [None, None]
    assert graph.notes == ("No shape is known for 2 of 2 values, first of 'a' behind Relu 'Relu_0'.",)
    with pytest.raises(NotKnown):
        _ = graph.outputs[0].rank


def test_shapes_in_the_file_that_contradict_its_nodes() -> None:
    graph = read(model([conv()], [weight("w", 4, 3, 3, 3)], outputs=[value("y", (1, 4, 9, 9))]))
    assert graph.notes[0].startswith("Shape inference: ")
    assert "(6) vs (9)" in graph.notes[0]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"value": tensor("", [1.5], "float32")}, np.array([1.5], np.float32)),
        ({"value_int": 3}, np.array(3)),
        ({"value_ints": [3, 4]}, np.array([3, 4])),
        ({"value_float": 0.5}, np.array(0.5, np.float32)),
        ({"value_floats": [0.5, 2]}, np.array([0.5, 2], np.float32)),
    ],
)
def test_constant_nodes(attributes: dict[str, Any], expected: Any) -> None:
    kind = helper.np_dtype_to_tensor_dtype(expected.dtype)
    graph = read(model([constant("y", **attributes)], outputs=[value("y", None, kind)]))
    found = graph.outputs[0].data()
    assert graph.nodes[0].folded
    assert (found == expected).all()
    assert found.dtype == expected.dtype
    assert graph.outputs[0].dims == expected.shape


def test_a_large_constant_node_is_read_when_asked_for() -> None:
    large = tensor("", np.arange(5000), "float32")
    graph = read(model([constant("c", value=large), node("Mul", "x c")], inputs=[value("x", (1, 5000))]))
    assert graph.nodes[0].attributes == {}
    assert graph.outputs[0].dims == (1, 5000)
    assert data(graph, "c")[4999] == 4999


def test_sizes_that_the_model_computes_from_a_shape() -> None:
    nodes = [
        node("Shape", "x", "all"),
        node("Gather", "all two", "height"),
        node("Mul", "height two", "twice"),
        node("Div", "twice three", "part"),  # which inference does not follow
        node("Unsqueeze", "part zero", "rows"),
        node("Concat", "minus rows", "shape", axis=0),
        node("Reshape", "x shape", "r"),
        node("Relu", "r"),
    ]
    numbers = {"zero": [0], "two": 2, "three": 3, "minus": [-1]}
    graph = read(model(nodes, [tensor(name, number, "int64") for name, number in numbers.items()]))
    assert data(graph, "shape").tolist() == [-1, 5]
    assert [each.folded for each in graph.nodes] == [True] * 6 + [False] * 2
    # 192 elements are no multiple of 5, so inference refuses the shape and the reader says so
    assert any("Reshape" in note for note in graph.notes)


def test_computed_sizes_tell_shapes_further_on() -> None:
    nodes = [
        node("Shape", "x", "all", start=2),
        node("Div", "all two", "half"),
        node("Concat", "ones half", "s", axis=0),
    ]
    nodes += [node("Expand", "one s", "e"), node("Shape", "e", "again"), node("Div", "again again", "k")]
    nodes += [node("Expand", "one k")]
    numbers = {"two": [2, 2], "ones": [1, 3]}
    initializers = [tensor(name, number, "int64") for name, number in numbers.items()]
    graph = read(model(nodes, [*initializers, tensor("one", [1.0], "float32")]))
    assert one(graph, "Concat").outputs[0].data().tolist() == [1, 3, 4, 4]
    assert graph.outputs[0].dims == (1, 1, 1, 1)
    assert graph.notes == ()


def test_sizes_of_a_dynamic_shape() -> None:
    nodes = [node("Shape", "x", "all"), node("Gather", "all three", "width"), node("Gather", "all two", "height")]
    nodes += [node("Add", "width height")]
    numbers = [tensor("three", 3, "int64"), tensor("two", 2, "int64")]
    graph = read(model(nodes, numbers, inputs=[value("x", ("N", 3, "H", 8))]))
    assert data(graph, "width") == 8
    assert not graph.producers["height"].folded
    assert not graph.producers["all"].folded
    with pytest.raises(NotKnown, match="the data of height"):
        data(graph, "height")


def test_large_constants_are_known_as_constants_but_not_computed() -> None:
    graph = read(model([node("Neg", "w", "n"), node("Mul", "x n")], [weight("w", 1, 3, 64, 64)], inputs=[value("x")]))
    assert graph.producers["n"].folded
    with pytest.raises(NotKnown, match="the data of n, which the model computes from constants"):
        data(graph, "n")


def test_what_is_computed_at_once_stays_small() -> None:
    graph = read(
        model([node("Expand", "one far", "e"), node("Add", "x e")], [weight("one", 1), tensor("far", [2**40])])
    )
    assert graph.producers["e"].folded
    with pytest.raises(NotKnown, match="the data of e"):
        data(graph, "e")


def test_another_name_of_a_weight_is_the_weight() -> None:
    graph = read(model([node("Identity", "w", "v"), conv("x v")], [weight("w", 40, 3, 3, 3)]))
    assert one(graph, "Conv").input(1).data().shape == (40, 3, 3, 3)


def test_random_numbers_are_no_constants() -> None:
    graph = read(model([node("RandomNormal", "", "r", shape=[1]), node("Add", "x r")]))
    assert not graph.producers["r"].folded


def test_a_constant_that_cannot_be_computed() -> None:
    nodes = [node("Gather", "few far", "g"), node("Relu", "x")]
    outputs = [value("y"), value("g", None, TensorProto.INT64)]
    graph = read(model(nodes, [tensor("few", [1, 2]), tensor("far", 9)], outputs=outputs))
    with pytest.raises(NotKnown, match="the data of g, which cannot be computed"):
        data(graph, "g")


def test_division_by_zero_among_constants_warns_nobody() -> None:
    graph = read(model([node("Div", "one zero", "d"), node("Add", "x d")], [tensor("one", 1.0), tensor("zero", 0.0)]))
    assert np.isinf(data(graph, "d"))


def test_a_quantised_model() -> None:
    scales = [tensor("s", 0.1, "float32"), tensor("z", 0, "uint8"), tensor("q", np.ones((4, 3, 3, 3)), "int8")]
    scales += [tensor("sq", np.ones(4), "float32"), tensor("zq", np.zeros(4), "int8")]
    nodes = [
        node("QuantizeLinear", "x s z", "xq"),
        node("QLinearConv", "xq s z q sq zq s z", "c"),
        node("DequantizeLinear", "c s z", "f"),
        node("DequantizeLinear", "q sq zq", "w", axis=0),
        conv("f w"),
    ]
    graph = read(model(nodes, scales, inputs=[value("x", IMAGE)], outputs=[value("y", None)]))
    assert graph.producers["xq"].outputs[0].dtype == "uint8"
    assert one(graph, "QLinearConv").macs == 4 * 6 * 6 * 27
    assert graph.producers["w"].folded
    assert data(graph, "w").shape == (4, 3, 3, 3)
    carried = {each.name: each.quantised for made in graph.nodes for each in (*made.inputs, *made.outputs) if each}
    assert {name: kind for name, kind in carried.items() if kind} == {"x": "uint8", "f": "uint8", "w": "int8"}


def test_attributes_are_python_values() -> None:
    nodes = [node("Resize", "x - k", "a", mode="nearest"), node("ConstantOfShape", "n", "b", value=tensor("", [2.0]))]
    graph = read(model([*nodes, node("Relu", "a")], [tensor("k", [1, 1, 2, 2], "float32"), tensor("n", [3])]))
    assert one(graph, "Resize").attributes == {"mode": "nearest"}
    assert one(graph, "Resize").input(2).data().tolist() == [1, 1, 2, 2]
    assert graph.outputs[0].dims == (1, 3, 16, 16)
    assert one(graph, "ConstantOfShape").attributes["value"] == np.array([2.0])
    assert data(graph, "b").tolist() == [2, 2, 2]


def test_values_that_are_no_tensors() -> None:
    graph = read(
        model(
            [node("SequenceConstruct", "x x", "s"), node("SequenceLength", "s")],
            outputs=[value("y", (), TensorProto.INT64)],
        )
    )
    found = graph.producers["s"].outputs[0]
    assert (found.dims, found.dtype) == (None, None)
