"""Which surgery rule the linter names for what a target refuses."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from written_graphs import Make, graph_of, limited, node, target_of

from surgery import rules
from zoo.graph.view import Graph
from zoo.linting.cures import _OF_OPERATOR, _OF_PATTERN
from zoo.linting.lint import lint
from zoo.linting.other_settings import rule_for
from zoo.targets.target import Target

PLAIN = ("Add", "Clip", "Concat", "Conv", "MatMul", "Mul", "Pad", "Relu", "Reshape")
SMALL_KERNELS = limited({"kind": "allowed_windows", "only": [{"kernel_max": 3}]})


def cures(graph: Graph, target: Target) -> dict[str, str]:
    """The rule of each finding, by its node."""
    report = lint(graph, target, model="m", target_name="t")
    return {finding.node: finding.rule for finding in report.findings if finding.node}


def cure(made: Make, target: Target, **said: Any) -> str:
    (rule,) = cures(graph_of(made, **said), target).values()
    return rule


@pytest.mark.parametrize(
    ("made", "rule"),
    [
        (node("HardSwish", "a", "y", torch_op="hardswish"), "hardswish_to_relu"),
        (node("HardSwish", "a", "y"), "hardswish_to_relu"),  # of a file that does not say
        (node("Sigmoid", "a", "y", torch_op="silu"), "silu_to_relu"),
        (node("Sigmoid", "a", "y", torch_op="sigmoid_"), "sigmoid_to_clamp"),
        (node("Mul", "a a", "y", torch_op="gelu"), "gelu_to_relu"),
        (node("Mul", "a a", "y", torch_op="mul"), ""),
        (node("LayerNormalization", "a", "y", torch_op="native_layer_norm"), "norm_to_batchnorm"),
        (node("Reshape", "a", "y", torch_op="group_norm"), "norm_to_batchnorm"),
        (node("PRelu", "a", "y", torch_op="_prelu_kernel"), "prelu_to_relu"),
        (node("Softmax", "a", "y", torch_op="softmax"), ""),
        (node("Einsum", "a", "y"), ""),
        (node("If", "a", "y"), ""),
    ],
)
def test_what_replaces_an_operator_that_is_not_listed(made: Make, rule: str) -> None:
    ends_only = {op: {"status": "ends_only"} for op in ("Mul", "Reshape")}
    target = target_of("Relu", "Add", "Clip", "BatchNormalization", operators=ends_only)
    inside = graph_of(node("Relu", "x", "a"), made, node("Relu", "y", "z"), outputs=["z"])
    assert cures(inside, target) == {"y": rule}


def test_a_rule_that_leaves_what_the_target_does_not_take_is_no_cure() -> None:
    made = node("HardSwish", "x", "y", torch_op="hardswish")
    assert cure(made, target_of("HardSigmoid", "Mul")) == "spell_out_hardswish"
    assert cure(made, target_of("Relu", "HardSigmoid", "Mul")) == "spell_out_hardswish"  # the exact one
    assert cure(made, target_of("Relu", "Mul")) == "hardswish_to_relu"
    assert cure(made, target_of("Conv")) == ""


def test_patterns_tell_what_nodes_are_part_of() -> None:
    silu = graph_of(node("Sigmoid", "x", "s"), node("Mul", "x s", "y"))
    assert cures(silu, target_of("Relu", "Clip", "Add", "Mul")) == {"s": "silu_to_relu"}
    alone = graph_of(node("Sigmoid", "x", "y"))
    assert cures(alone, target_of("Relu", "Clip", "Add", "Mul")) == {"y": "sigmoid_to_clamp"}


@pytest.mark.parametrize(
    ("made", "rule"),
    [
        (node("Conv", "x w", "y", kernel_shape=[7, 7]), "split_large_kernel"),
        (node("Conv", "x w", "y", kernel_shape=[4, 4]), "even_kernel_to_odd"),
        (node("Conv", "x w", "y", kernel_shape=[4, 4], strides=[4, 4]), ""),  # patches
        (node("Conv", "x w", "y", kernel_shape=[5, 5]), ""),
        (node("MaxPool", "x", "y", kernel_shape=[5, 5]), "split_max_pool"),
        (node("AveragePool", "x", "y", kernel_shape=[1, 7]), "split_avg_pool"),
        (node("MaxPool", "x", "y", kernel_shape=[2, 4], domain="com.vendor"), ""),
    ],
)
def test_windows(made: Make, rule: str) -> None:
    target = target_of(*PLAIN, operators=dict.fromkeys(("Conv", "MaxPool", "AveragePool"), SMALL_KERNELS))
    assert cure(made, target, constants={"w": [[[[1.0]]]]}) == rule


@pytest.mark.parametrize(
    ("scales", "said", "limit", "rule"),
    [
        ([1, 1, 8, 8], {"mode": "nearest"}, {"kind": "resize_scale", "max": 4.0}, "split_resize"),
        ([1, 1, 8, 8], {"mode": "linear"}, {"kind": "resize_scale", "max": 4.0}, "split_bilinear_resize"),
        ([1, 1, 1.5, 1.5], {"mode": "linear"}, {"kind": "resize_scale", "integer": True}, "resize_by_factor"),
        (
            [1, 1, 2, 2],
            {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
            {"kind": "allowed_resize", "only": [{"coordinates": ["half_pixel"]}]},
            "resize_to_supported",
        ),
    ],
)
def test_resizes(scales: list[float], said: dict[str, Any], limit: dict[str, Any], rule: str) -> None:
    target = target_of(*PLAIN, "AveragePool", operators={"Resize": limited(limit)})
    assert cure(node("Resize", "x - s", "y", **said), target, constants={"s": scales}) == rule


def test_softmax_along_another_axis_and_the_stem_of_slices() -> None:
    width = limited({"kind": "axis_in", "axes": ["width"]})
    target = target_of("Transpose", "Conv", operators={"Softmax": width})
    assert cure(node("Softmax", "x", "y", axis=1), target) == "softmax_last_axis"
    cut = {"start": [0], "end": [2**31], "rows": [2], "channels": [1], "two": [2], "one": [1]}
    assert cure(node("Slice", "x start end rows two", "y"), target, constants=cut) == "focus_to_conv"
    assert cure(node("Slice", "x start end channels two", "y"), target, constants=cut) == ""
    assert cure(node("Slice", "x start end rows one", "y"), target, constants=cut) == ""


FLAT = dict.fromkeys("psfg", (1, 8, 1, 1))


def gate(layer: str, image: str) -> list[Make]:
    return [
        node("Relu", "x", "a", module=image),
        node("ReduceMean", "a", "p", module=layer),
        node("Conv", "p w", "s", module=f"{layer}.fc"),
        node("HardSigmoid", "s", "f", module=f"{layer}.act"),
        node("Mul", "f a", "y", module=layer),
    ]


@pytest.mark.parametrize(
    ("layer", "image", "rule"),
    [("b.se", "b.act", "squeeze_excite"), ("b", "b.act", "gate"), ("", "", "squeeze_excite")],
)
def test_gates(layer: str, image: str, rule: str) -> None:
    graph = graph_of(*gate(layer, image), dims=FLAT, constants={"w": [[[[1.0]]]]})
    broadcast = limited({"kind": "variable_inputs_max", "value": 1})
    target = target_of("Relu", "Conv", operators={"Mul": broadcast})
    assert cures(graph, target) == dict.fromkeys(("p", "f", "y"), rule)
    assert cures(graph_of(*gate(layer, image), constants={"w": [1.0]}), target)["y"] == ""  # no gate: of images
    flat = graph_of(*gate(layer, image), dims=FLAT | {"a": (1, 8, 1, 1)}, constants={"w": [[[[1.0]]]]})
    assert cures(flat, target)["y"] == ""  # one place is no image


def test_what_is_not_known_has_no_cure() -> None:
    graph = graph_of(node("Softmax", "x", "y", axis=1), node("Elu", "y", "z"), dims={"x": None, "y": None})
    target = target_of("Transpose", "Relu", operators={"Softmax": limited({"kind": "axis_in", "axes": ["width"]})})
    assert cures(graph, target) == {"y": "", "z": "elu_to_relu"}


@pytest.mark.parametrize(
    "made",
    [
        node("Resize", "x - inf", "y", mode="nearest"),
        node("Resize", "x - nan", "y", mode="nearest"),
        node("Resize", "x - - sizes", "y", mode="nearest"),  # of an image without rows, which is ONNX
        node("Resize", "x - two", "y", mode="nearest", axes=3),
        node("Conv", "x list", "y"),
        node("Conv", "x w", "y", kernel_shape=7),
        node("Conv", "x w", "y", kernel_shape=[7, 7], strides="a", group=8),
        node("Slice", "x two two", "y", axes="x"),
    ],
)
def test_what_is_no_node_of_onnx_has_no_cure(made: Make) -> None:
    constants = {
        "inf": [1, 1, np.inf, 2],
        "nan": [np.nan],
        "sizes": [1, 4, 9, 8],
        "list": [1.0],
        "w": [[[[1.0]]]],
        "two": [2],
    }
    graph = graph_of(made, constants=constants, dims={"x": (1, 4, 0, 8)})
    (node_,) = graph.nodes
    limits = {"Conv": "allowed_windows", "Resize": "resize_scale"}
    assert rule_for(graph, node_, limits.get(node_.op, "slice_steps")) in ("", "split_large_kernel", "resize_by_factor")


def test_slices_without_end() -> None:
    first = [node("Slice", "x start end rows two", "v0"), node("Slice", "v0 start end rows one", "v1")]
    more = [node("Slice", f"v{n} v{n - 1} end rows one", f"v{n + 1}") for n in range(1, 1500)]
    constants = {"start": [0], "end": [2**31], "rows": [2], "two": [2], "one": [1]}
    graph = graph_of(*first, *more, outputs=["v1500"], constants=constants)
    assert rule_for(graph, graph.nodes[0], "operator") == "focus_to_conv"


def test_every_operation_of_the_tables_is_one_that_a_rule_removes() -> None:
    removed = frozenset().union(*(rule.removes for rule in rules().values()))
    assert len(_OF_OPERATOR) > 15
    assert set(_OF_OPERATOR.values()) | set(_OF_PATTERN.values()) <= removed


def test_torch_is_not_imported_where_nothing_is_refused() -> None:
    code = """
import sys
from written_graphs import graph_of, node, target_of
from zoo.linting.lint import lint
for op in ("Relu", "Elu"):
    lint(graph_of(node(op, "x", "y")), target_of("Relu"), model="m", target_name="t")
    print("torch" in sys.modules)
"""
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=__file__.rpartition("/")[0],
        env={"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert told.stdout.split() == ["False", "True"]


@pytest.mark.parametrize(("axis", "rule"), [(1, "focus_to_conv"), (-1, ""), (3, "")])
def test_slices_that_are_joined_along_channels_that_stand_last_are_no_focus(axis: int, rule: str) -> None:
    graph = graph_of(
        node("Slice", "x start end rows two", "a"),
        node("Slice", "a start end rows one", "b"),
        node("Concat", "b b", "y", axis=axis),
        constants={"start": [0], "end": [2**31], "rows": [2], "two": [2], "one": [1]},
    )
    assert cures(graph, target_of("Conv", "Concat"))["a"] == rule


@pytest.mark.parametrize(
    ("side", "group", "stride", "rule"),
    [
        (5, 8, 2, "split_kernel_to_3x3"),
        (7, 8, 2, "split_kernel_to_3x3"),
        (7, 8, 1, "split_large_kernel"),
        (5, 1, 2, ""),
        (3, 8, 2, ""),
    ],
)
def test_a_depthwise_kernel_with_a_stride_is_split_into_3x3(side: int, group: int, stride: int, rule: str) -> None:
    conv = node("Conv", "x w", "y", kernel_shape=[side, side], strides=[stride, stride], group=group)
    target = target_of(*PLAIN, operators={"Conv": limited({"kind": "allowed_windows", "only": [{"kernel_max": 1}]})})
    assert cure(conv, target, constants={"w": [[[[1.0]]]]}) == rule
