"""Resize and Upsample, as all opsets write them, on either side of each limit's border."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from limit_cases import Case, check, limit
from onnx_nodes import node

from zoo.graph.view import Node, NotKnown, Value
from zoo.targets.operators.scales import scales

IMAGE = (1, 8, 6, 4)


def by(*factors: float, **attributes: Any) -> partial[Node]:
    return partial(node, "Resize", IMAGE, None, np.array(factors, "float32"), **attributes)


def to(*sizes: int, **attributes: Any) -> partial[Node]:
    return partial(node, "Resize", IMAGE, None, None, np.array(sizes, "int64"), **attributes)


def scale(**said: Any) -> dict[str, Any]:
    return {"kind": "resize_scale", **said}


COORDINATES, NEAREST = "coordinate_transformation_mode", "nearest_mode"
HALF_PIXEL = {
    "kind": "allowed_resize",
    "when": {"modes": ["nearest"], "coordinates": ["half_pixel", "pytorch_half_pixel"]},
    "only": [{"nearest": ["round_prefer_ceil"]}],
}
LINEAR_ASYMMETRIC = {"kind": "forbidden_resize", "when": {"modes": ["linear"], "coordinates": ["asymmetric"]}}
ONE_PIXEL = {"kind": "forbidden_resize", "when": {"coordinates": ["pytorch_half_pixel"], "output_max": 1}}
pytorch = {COORDINATES: "pytorch_half_pixel"}
asymmetric = {COORDINATES: "asymmetric"}

CASES = [
    Case(
        scale(power_of_two=True),
        held=by(1, 1, 4, 4),
        broken=by(1, 1, 3, 3),
        fact="scales 1x1x3x3; only powers of two",
    ),
    Case(scale(power_of_two=True), held=by(1, 1, 0.5, 2), broken=by(1, 1, 1.5, 2), fact="1x1x1.5x2"),
    Case(
        scale(equal=True),
        held=to(1, 8, 12, 8),
        broken=to(1, 8, 12, 16),
        fact="scales 1x1x2x4; only the same in height and width",
    ),
    Case(scale(equal=True), held=by(1, 1, 1, 1), broken=by(1, 1, 1, 2), fact="the same in height"),
    Case(scale(integer=True, min=1), held=by(1, 1, 3, 2), broken=by(1, 1, 2.5, 2), fact="only whole numbers"),
    Case(scale(integer=True), held=to(1, 8, 18, 12), broken=to(1, 8, 9, 6), fact="scales 1x1x1.5x1.5"),
    Case(
        scale(min=1, power_of_two=True),
        held=by(1, 1, 1, 1),
        broken=by(1, 1, 0.75, 0.75),
        fact="only at least 1 and powers of two",
    ),
    Case(scale(max=4), held=by(1, 1, 4, 4), broken=by(1, 1, 8, 8), fact="only at most 4"),
    Case(
        LINEAR_ASYMMETRIC,
        held=by(1, 1, 2, 2, mode="linear"),
        broken=by(1, 1, 2, 2, mode="linear", **asymmetric),
        fact="mode linear, coordinates asymmetric; not supported: mode linear, coordinates asymmetric",
    ),
    Case(
        LINEAR_ASYMMETRIC,
        held=by(1, 1, 2, 2, **asymmetric),
        broken=partial(node, "Upsample", IMAGE, mode="linear", scales=[1.0, 1.0, 2.0, 2.0], opset=7),
        fact="coordinates asymmetric",
    ),
    Case(
        ONE_PIXEL,
        held=to(1, 8, 2, 2, **pytorch),
        broken=to(1, 8, 2, 1, **pytorch),
        fact="coordinates pytorch_half_pixel, output 2x1; not supported",
    ),
    Case(
        HALF_PIXEL,
        held=by(1, 1, 2, 2, **{NEAREST: "round_prefer_ceil"}),
        broken=by(1, 1, 2, 2),
        fact="nearest mode round_prefer_floor; where mode nearest, coordinates half_pixel or",
    ),
    Case(HALF_PIXEL, held=by(1, 1, 2, 2, mode="linear"), broken=by(1, 1, 2, 2, **pytorch), fact="pytorch_half_pixel"),
    Case(
        {"kind": "allowed_resize", "only": [{"coordinates": ["half_pixel", "asymmetric"]}]},
        held=partial(node, "Resize", IMAGE, np.array([1, 1, 2, 2], "float32"), opset=10),
        broken=by(1, 1, 2, 2, **{COORDINATES: "align_corners"}),
        fact="coordinates align_corners; only coordinates half_pixel or asymmetric",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_either_side_of_the_border(case: Case) -> None:
    check(case)


FACTORS = np.array([1, 1, 2, 2], "float32")


@pytest.mark.parametrize(
    "asked",
    [
        partial(node, "Upsample", IMAGE, scales=[1.0, 1.0, 2.0, 2.0], opset=7),
        partial(node, "Upsample", IMAGE, FACTORS, opset=9),
        partial(node, "Resize", IMAGE, FACTORS, opset=10),
        partial(node, "Resize", IMAGE, np.zeros(0, "float32"), FACTORS, opset=11),
        partial(node, "Resize", IMAGE, None, FACTORS, opset=13),
        partial(node, "Resize", IMAGE, None, None, np.array([1, 8, 12, 8], "int64"), opset=13),
        partial(node, "Resize", IMAGE, None, np.zeros(0, "float32"), np.array([1, 8, 12, 8], "int64"), opset=11),
        partial(node, "Resize", IMAGE, None, FACTORS[2:], opset=18, axes=[2, 3]),
        partial(node, "Resize", IMAGE, None, None, np.array([8, 12], "int64"), opset=18, axes=[-1, -2]),
        partial(
            *(node, "Resize", IMAGE, None, None, np.array([13, 8], "int64")),
            axes=[2, 3],
            keep_aspect_ratio_policy="not_larger",
        ),
    ],
)
def test_scales_are_found_however_the_opset_writes_them(asked: partial[Node]) -> None:
    assert scales(asked()) == (1, 1, 2, 2)


def test_scales_that_are_computed_follow_from_the_shapes_or_are_not_known() -> None:
    resize = node("Resize", IMAGE, None, (4,))
    with pytest.raises(NotKnown):
        limit(scale(integer=True)).broken(resize)
    dynamic = node("Resize", ("n", 8, "h", "w"), None, None, np.array([1, 8, 12, 8], "int64"))
    with pytest.raises(NotKnown, match="in0"):
        limit(scale(integer=True)).broken(dynamic)
    unknown = node("Resize", (None,) * 4, None, FACTORS[2:], axes=[2, 3])
    assert scales(unknown) == (1, 1, 2, 2)
    with pytest.raises(NotKnown, match="the shape of x"):
        scales(Node("n", "Resize", (Value("x"),), (Value("y"),), {"scales": (2.0,), "axes": (1,)}, opset=18))
    with pytest.raises(NotKnown, match="opset"):
        scales(Node("n", "Resize", (Value("x", IMAGE),), (Value("y", IMAGE),)))
