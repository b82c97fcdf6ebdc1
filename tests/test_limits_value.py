"""Attributes, constants and quantised integers on either side of each limit's border."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from limit_cases import Case, check, limit
from onnx_nodes import node, quantised

from zoo.graph.view import Node, NotKnown
from zoo.targets.operators.parameters import attribute, parameter

IMAGE = (1, 8, 6, 4)


def number(value: float) -> Any:
    return np.array(value, "float32")


def allowed(**names: list[Any]) -> dict[str, Any]:
    return {"kind": "attribute_in", "allowed": names}


def gemm(**attributes: Any) -> partial[Node]:
    return partial(node, "Gemm", (3, 3), np.ones((3, 3), "float32"), **attributes)


def clip(*bounds: Any, opset: int = 18, **attributes: Any) -> partial[Node]:
    return partial(node, "Clip", IMAGE, *bounds, opset=opset, **attributes)


def pad(*value: Any, **attributes: Any) -> partial[Node]:
    return partial(node, "Pad", IMAGE, np.array([0, 0, 1, 1, 0, 0, 1, 1], "int64"), *value, **attributes)


def scatter(data: Any, **attributes: Any) -> partial[Node]:
    return partial(node, "ScatterND", data, np.zeros((2, 4), "int64"), (2,), **attributes)


RESIZE = {"antialias": [0], "keep_aspect_ratio_policy": ["stretch"]}
UPSAMPLE = partial(node, "Upsample", IMAGE, np.array([1, 1, 2, 2], "float32"), opset=9)
CLIP = {"kind": "clip_range", "min_at_most": 0, "max_above": 0}
ZERO = {"kind": "pad_value", "value": 0}
SIGNED = {"kind": "quantised_signs", "forbidden": {"inputs": "signed", "output": "unsigned"}}
MIXED = {"kind": "quantised_signs", "forbidden": {"inputs": "mixed"}}
UNSIGNED = {"kind": "quantised_signs", "forbidden": {"inputs": "unsigned"}}
EIGHT = {"kind": "quantised_bits", "allowed": [8]}
CASES = [
    Case(
        allowed(transA=[0], alpha=[1.0], beta=[1]),
        held=gemm(alpha=1.0),
        broken=gemm(alpha=0.5),
        fact="alpha 0.5; only 1.0",
    ),
    Case(allowed(transA=[0]), held=gemm(transB=1), broken=gemm(transA=1), fact="transA 1; only 0"),
    Case(allowed(alpha=[0.1]), held=gemm(alpha=0.1), broken=gemm(), fact="alpha 1.0; only 0.1"),
    Case(
        allowed(keepdims=[1]),
        held=partial(node, "ReduceMax", IMAGE),
        broken=partial(node, "ReduceMax", IMAGE, keepdims=0),
        fact="keepdims 0",
    ),
    Case(
        allowed(mode=["constant"]),
        held=pad(),
        broken=pad(mode="reflect"),
        fact="mode reflect; only constant",
    ),
    Case(
        allowed(coordinate_transformation_mode=["asymmetric"], **RESIZE),
        held=UPSAMPLE,
        broken=partial(node, "Resize", IMAGE, None, np.array([1, 1, 2, 2], "float32")),
        fact="coordinate_transformation_mode half_pixel",
    ),
    Case(
        allowed(sorted=[1]),
        held=partial(node, "TopK", IMAGE, np.array([2]), outputs=2),
        broken=partial(node, "TopK", IMAGE, np.array([2]), outputs=2, sorted=0),
        fact="sorted 0",
    ),
    Case(
        allowed(blocksize=[2, 4, 8]),
        held=partial(node, "DepthToSpace", IMAGE, blocksize=2),
        broken=partial(node, "DepthToSpace", (1, 9, 6, 4), blocksize=3),
        fact="blocksize 3; only 2, 4 or 8",
    ),
    Case(
        {"kind": "attribute_not_in", "forbidden": {"reduction": ["mul"]}},
        held=scatter(IMAGE, reduction="add"),
        broken=scatter(IMAGE, reduction="mul"),
        fact="reduction mul; not mul",
    ),
    Case(
        {"kind": "attribute_not_in", "forbidden": {"axis": [-1]}},
        held=partial(node, "Softmax", (1, 8), opset=11),
        broken=partial(node, "Softmax", (1, 8), opset=13),
        fact="axis -1; not -1",
    ),
    Case(
        CLIP,
        held=clip(number(0), number(6)),
        broken=clip(number(1), number(6)),
        fact="clip to 1 ... 6; only from at most 0 to above 0",
    ),
    Case(CLIP, held=clip(), broken=clip(None, number(0)), fact="clip to -inf ... 0"),
    Case(CLIP, held=clip(max=6.0, opset=6), broken=clip(min=0.5, opset=6), fact="clip to 0.5"),
    Case(ZERO, held=pad(), broken=pad(number(1)), fact="padding of 1; only of 0"),
    Case(ZERO, held=pad(number(1), mode="edge"), broken=pad(number(-1)), fact="padding of -1"),
    Case(
        ZERO,
        held=partial(node, "Pad", IMAGE, pads=[0] * 8, opset=10),
        broken=partial(node, "Pad", IMAGE, pads=[0] * 8, value=2.0, opset=10),
        fact="padding of 2",
    ),
    Case(
        {"kind": "zero_if_constant", "inputs": [0]},
        held=scatter(np.zeros(IMAGE, "float32")),
        broken=scatter(np.eye(4, dtype="float32").reshape(1, 1, 4, 4)),
        fact="input 0 with other constants than zeros",
    ),
    Case(
        {"kind": "zero_if_constant", "inputs": [0]},
        held=scatter(IMAGE),
        broken=scatter(np.ones(IMAGE, "float32")),
        fact="only zeros",
    ),
    Case(
        EIGHT,
        held=partial(quantised, "Softmax", ["int8"], "uint8"),
        broken=partial(quantised, "Softmax", ["int16"], "int16"),
        fact="input 0 int16 and output int16; only 8 bits",
    ),
    Case(EIGHT, held=partial(node, "Softmax", IMAGE), broken=partial(quantised, "Relu", ["int8"], "int16"), fact="16"),
    Case(
        {"kind": "same_quantised_bits"},
        held=partial(quantised, "Softmax", ["int16"], "uint16"),
        broken=partial(quantised, "Softmax", ["int8"], "int16"),
        fact="input 0 int8 and output int16; only the same number of bits",
    ),
    Case(
        SIGNED,
        held=partial(quantised, "MatMul", ["int8", "uint8"], "uint8"),
        broken=partial(quantised, "MatMul", ["int8", "int8"], "uint8"),
        fact="input 0 int8, input 1 int8 and output uint8; not signed inputs with unsigned output",
    ),
    Case(
        SIGNED,
        held=partial(quantised, "MatMul", ["int8", "int8"], "int8"),
        broken=partial(quantised, "Relu", ["int8"], "uint8"),
        fact="not signed inputs",
    ),
    Case(
        MIXED,
        held=partial(quantised, "MatMul", ["uint8", "uint8"], "int8"),
        broken=partial(quantised, "MatMul", ["int8", "uint8"], "int8"),
        fact="input 0 int8, input 1 uint8 and output int8; not mixed inputs",
    ),
    Case(
        UNSIGNED,
        held=partial(quantised, "MatMul", ["int8", "int8"], "uint8"),
        broken=partial(quantised, "MatMul", ["int8", "uint8"], "uint8"),
        fact="not unsigned inputs",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_either_side_of_the_border(case: Case) -> None:
    check(case)


def test_a_float_model_breaks_no_limit_of_integers() -> None:
    for said in (EIGHT, SIGNED, MIXED, UNSIGNED, {"kind": "same_quantised_bits"}):
        assert limit(said).broken(node("MatMul", IMAGE, (1, 8, 4, 6))) is None


@pytest.mark.parametrize(
    ("asked", "name", "expected"),
    [
        (partial(node, "Softmax", IMAGE, opset=12), "axis", 1),
        (partial(node, "Softmax", IMAGE, opset=13), "axis", -1),
        (partial(node, "DepthToSpace", IMAGE, blocksize=2, opset=11), "mode", "DCR"),
        (partial(node, "DepthToSpace", IMAGE, blocksize=2, opset=10), "mode", None),
        (partial(node, "Resize", IMAGE, np.array([1, 1, 2, 2], "float32"), opset=10), "nearest_mode", "floor"),
        (partial(node, "BatchNormalization", IMAGE, *[np.ones(8, "float32")] * 4), "training_mode", 0),
        (partial(node, "Relu", IMAGE), "axis", None),
    ],
)
def test_defaults_are_those_of_the_opset(asked: partial[Node], name: str, expected: Any) -> None:
    assert attribute(asked(), name) == expected


def test_a_parameter_is_an_attribute_or_an_input_by_opset() -> None:
    attribute_of_9 = partial(node, "TopK", IMAGE, k=2, opset=9, outputs=2)
    input_of_11 = partial(node, "TopK", IMAGE, np.array([2], "int64"), opset=11, outputs=2)
    assert (parameter(attribute_of_9(), "k"), parameter(input_of_11(), "k")) == (2, [2])
    with pytest.raises(NotKnown, match="in1"):
        parameter(node("TopK", IMAGE, (1,), outputs=2), "k")


def test_what_depends_on_an_opset_that_is_not_told_is_not_known() -> None:
    softmax = Node("softmax", "Softmax", (), (), {})
    with pytest.raises(NotKnown, match="opset of Softmax"):
        limit(allowed(axis=[1])).broken(softmax)
    given = Node("softmax", "Softmax", (), (), {"axis": 1})
    assert limit(allowed(axis=[1])).broken(given) is None
