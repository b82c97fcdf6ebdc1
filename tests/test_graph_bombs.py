"""Small files that say large things: what they would grow to is never made."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from small_graphs import IMAGE, OPSET, conv, model, node, tensor, value, weight

from zoo.errors import UnreadableModel
from zoo.graph.operator_sets import LARGEST
from zoo.graph.reading import read


def doubling(levels: int) -> onnx.ModelProto:
    """Functions of which each calls the one before it twice."""
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("my", 1)]
    functions = [helper.make_function("my", "F0", ["a"], ["b"], [node("Relu", "a", "b")], imports)]
    for level in range(1, levels + 1):
        calls = [node(f"F{level - 1}", read, made, domain="my") for read, made in (("a", "t"), ("t", "b"))]
        functions.append(helper.make_function("my", f"F{level}", ["a"], ["b"], calls, imports))
    called = node(f"F{levels}", domain="my")
    return model([called], domains=["my"], functions=functions)


def test_functions_that_double_one_another_are_left_as_calls() -> None:
    graph = read(doubling(40))
    assert [each.op for each in graph.nodes] == ["F40"]
    assert graph.notes[0] == f"The model's functions are not looked into: written out they have {2**40:,} nodes."
    assert LARGEST < 2**40


def test_functions_that_are_not_too_many_are_looked_into() -> None:
    assert [each.op for each in read(doubling(4)).nodes] == ["Relu"] * 16


@pytest.mark.parametrize(
    ("made", "constants"),
    [
        (node("Tile", "one count", "c"), {"one": np.ones(1, np.float32), "count": [10**12]}),
        (node("Expand", "one count", "c"), {"one": np.ones(1, np.float32), "count": [10**12]}),
        (node("Relu", "x", "c"), {}),
    ],
)
def test_long_lists_are_not_followed_as_the_data_of_shapes(made: onnx.NodeProto, constants: dict[str, object]) -> None:
    initializers = [tensor(name, data) for name, data in constants.items()]
    size = 1 if constants else 10**12
    graph = read(model([made, node("Add", "x c")], initializers, inputs=[value("x", [size])]))
    assert graph.nodes[-1].outputs[0].dims == (10**12,)


def test_a_weight_with_fewer_bytes_than_its_shape_takes_is_damage() -> None:
    short = weight("w", 4, 3, 3, 3)
    short.dims[0] = 10**12
    with pytest.raises(UnreadableModel, match=r"^the model: tensor 'w' has fewer bytes than its shape and type take$"):
        read(model([conv()], [short], inputs=[value("x", IMAGE, TensorProto.FLOAT)]))
