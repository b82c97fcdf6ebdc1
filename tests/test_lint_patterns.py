"""Patterns that devices know as one layer: each form, and what nearly is one."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import pytest
from written_graphs import Make, graph_of, node

from zoo.graph.view import Graph
from zoo.reading.registry import modules

ROOT2 = 2**0.5


def found(pattern: str, graph: Graph) -> list[str]:
    """The names of the nodes of each match, the one that speaks first."""
    matches = import_module(f"zoo.linting.patterns.{pattern}").find(graph)
    return ["".join(each.name for each in match) for match in matches]


def gelu(*, inner: str = "Div", root: float = ROOT2, one: float = 1.0, half: float = 0.5) -> list[Make]:
    return [
        node(inner, "x root", "d"),
        node("Erf", "d", "e"),
        node("Add", "e one", "a"),
        node("Mul", "x a", "m"),
        node("Mul", "m half", "y"),
    ]


GELU = {"root": ROOT2, "one": [1.0], "half": [[0.5]]}


@pytest.mark.parametrize(
    ("nodes", "constants", "expected"),
    [
        (gelu(), GELU, ["edamy"]),
        (gelu(inner="Mul"), GELU | {"root": 1 / ROOT2}, ["edamy"]),
        (
            [*gelu()[:2], node("Add", "one e", "a"), node("Mul", "half x", "m"), node("Mul", "a m", "y")],
            GELU,
            ["edamy"],
        ),
        ([*gelu()[:3], node("Mul", "a half", "m"), node("Mul", "m x", "y")], GELU, ["edamy"]),
        (gelu(), GELU | {"root": 1.5}, []),
        (gelu(), GELU | {"one": 2.0}, []),
        (gelu(), GELU | {"half": [0.5, 0.25]}, []),
        ([*gelu()[:3], node("Mul", "z a", "m"), node("Mul", "m half", "y")], GELU, []),  # of another value
        ([*gelu(), node("Relu", "a", "u")], GELU, []),  # read outside
        ([node("Div", "x root", "d"), node("Tanh", "d", "e"), *gelu()[2:]], GELU, []),
    ],
)
def test_gelu(nodes: list[Make], constants: Mapping[str, Any], expected: list[str]) -> None:
    assert found("gelu_erf", graph_of(*nodes, constants=constants)) == expected


def test_a_value_inside_that_is_an_output_of_the_model_is_needed() -> None:
    assert found("gelu_erf", graph_of(*gelu(), constants=GELU, outputs=["y", "a"])) == []


def norm(*, axis: int = -1, other: int = -1, keep: int = 1) -> list[Make]:
    return [
        node("ReduceMean", "x axes", "m", keepdims=keep),
        node("Sub", "x m", "s"),
        node("Pow", "s two", "p"),
        node("ReduceMean", "p axes2", "v"),
        node("Add", "v eps", "a"),
        node("Sqrt", "a", "r"),
        node("Div", "s r", "d"),
        node("Mul", "d weight", "w"),
        node("Add", "w bias", "y"),
    ]


NORM = {"axes": [-1], "axes2": [3], "two": 2.0, "eps": 1e-5, "weight": [1.0] * 4, "bias": [0.0] * 4}


@pytest.mark.parametrize(
    ("nodes", "constants", "expected"),
    [
        (norm(), NORM, ["mspvardwy"]),
        (norm()[:8], NORM, ["mspvardw"]),
        (norm()[:7], NORM, ["mspvard"]),
        ([*norm()[:7], node("Mul", "d x", "y")], NORM, ["mspvard"]),  # what follows is no weight
        (norm(), NORM | {"axes2": [1]}, []),
        (norm(), NORM | {"two": 3.0}, []),
        (norm(keep=0), NORM, []),
        ([node("ReduceMax", "x axes", "m"), *norm()[1:]], NORM, []),
        ([*norm()[:6], node("Div", "r s", "d")], NORM, []),
        ([*norm()[:2], node("Mul", "s s", "p"), *norm()[3:]], NORM, []),
    ],
)
def test_layer_norm(nodes: list[Make], constants: Mapping[str, Any], expected: list[str]) -> None:
    assert found("layer_norm", graph_of(*nodes, constants=constants)) == expected


def test_layer_norm_with_axes_as_attributes() -> None:
    old = [
        node("ReduceMean", "x", "m", axes=[3], opset=11),
        *norm()[1:3],
        node("ReduceMean", "p", "v", axes=[-1], opset=11),
    ]
    assert found("layer_norm", graph_of(*old, *norm()[4:], constants=NORM)) == ["mspvardwy"]


def shuffle(perm: list[int]) -> list[Make]:
    return [node("Reshape", "x s", "a"), node("Transpose", "a", "t", perm=perm), node("Reshape", "t u", "y")]


@pytest.mark.parametrize(
    ("perm", "after", "expected"),
    [
        ([0, 2, 1, 3, 4], (1, 8, 4, 4), ["tay"]),
        ([0, 2, 1, 3, 4], None, ["tay"]),
        ([0, 2, 1, 3, 4], (1, 4, 32), []),  # heads of attention
        ([0, 1, 4, 2, 5, 3], (1, 8, 4, 4), []),  # a pixel shuffle
    ],
)
def test_channel_shuffle(perm: list[int], after: tuple[int, ...] | None, expected: list[str]) -> None:
    graph = graph_of(*shuffle(perm), constants={"s": [1], "u": [1]}, dims={"y": after})
    assert found("channel_shuffle", graph) == expected


def test_silu() -> None:
    assert found("silu", graph_of(node("Sigmoid", "x", "s"), node("Mul", "x s", "y"))) == ["sy"]
    assert found("silu", graph_of(node("Sigmoid", "x", "s"), node("Mul", "s x", "y"))) == ["sy"]
    assert found("silu", graph_of(node("Sigmoid", "x", "s"), node("Mul", "z s", "y"))) == []  # a gate
    assert found("silu", graph_of(node("Tanh", "x", "s"), node("Mul", "x s", "y"))) == []
    vendors = graph_of(node("Sigmoid", "x", "s", domain="com.vendor"), node("Mul", "x s", "y"))
    assert found("silu", vendors) == []


CLIP = {"three": 3.0, "low": 0.0, "high": 6.0, "six": 6.0, "sixth": 1 / 6}


def clipped(*last: Make) -> list[Make]:
    return [node("Add", "x three", "a"), node("Clip", "a low high", "c"), *last]


@pytest.mark.parametrize(
    ("nodes", "changed", "expected"),
    [
        ([node("HardSigmoid", "x", "h", alpha=1 / 6), node("Mul", "x h", "y")], {}, ["hy"]),
        ([node("HardSigmoid", "x", "h"), node("Mul", "x h", "y")], {}, []),  # ONNX's default slope is 0.2
        ([node("HardSigmoid", "x", "h", alpha=1 / 6), node("Mul", "z h", "y")], {}, []),
        (clipped(node("Mul", "x c", "m"), node("Div", "m six", "y")), {}, ["acmy"]),
        (clipped(node("Div", "c six", "d"), node("Mul", "d x", "y")), {}, ["acdy"]),
        (clipped(node("Mul", "x sixth", "d"), node("Mul", "d c", "y")), {}, ["acdy"]),
        (clipped(node("Mul", "x c", "m"), node("Div", "m six", "y")), {"high": 5.0}, []),
        (clipped(node("Mul", "x c", "m"), node("Div", "m six", "y")), {"three": 2.0}, []),
        ([node("Add", "x three", "a"), node("Clip", "a", "c", min=0.0, max=6.0, opset=9),
          node("Mul", "x c", "m"), node("Mul", "m sixth", "y")], {}, ["acmy"]),
        ([node("Add", "x three", "a"), node("Clip", "a low", "c"),
          node("Mul", "x c", "m"), node("Mul", "m sixth", "y")], {}, []),
    ],
)  # fmt: skip
def test_hardswish(nodes: list[Make], changed: Mapping[str, float], expected: list[str]) -> None:
    matched = found("hardswish", graph_of(*nodes, constants=CLIP | changed))
    assert [sorted(each) for each in matched] == [sorted(each) for each in expected]


def attention(*between: Make, scores: str = "q") -> list[Make]:
    return [node("MatMul", "x k", "q"), *between, node("Softmax", scores, "p"), node("MatMul", "p v", "y")]


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        (attention(), ["pqy"]),
        (attention(node("Div", "q scale", "d"), scores="d"), ["pqdy"]),
        (attention(node("Mul", "scale q", "d"), node("Add", "d mask", "m"), scores="m"), ["pqdmy"]),
        (
            attention(
                node("Add", "q mask", "m"),
                node("Reshape", "m s", "r"),
                node("Add", "r mask2", "n"),
                node("Reshape", "n s", "t"),
                scores="t",
            ),
            ["pqmrnty"],
        ),
        (attention(node("Relu", "q", "d"), scores="d"), []),
        (attention(node("Mul", "q x", "d"), scores="d"), []),  # no constant scale
        ([*attention(), node("Relu", "p", "u")], []),
        ([*attention()[:2], node("MatMul", "v p", "y")], []),  # the weights come first
    ],
)
def test_attention(nodes: list[Make], expected: list[str]) -> None:
    assert found("attention", graph_of(*nodes, constants={"scale": 0.125, "s": [1]})) == expected


def cut(axis: int, start: int, read: str, made: str, *, step: str = "2") -> Make:
    return node("Slice", f"{read} {start} end axis{axis} {step}", made)


MERGING: dict[str, Any] = {str(n): [n] for n in range(4)} | {f"axis{n}": [n] for n in range(4)} | {"end": [2**63 - 1]}
PAIRS = [cut(1, 0, "x", "a"), cut(1, 1, "x", "b")]
EIGHT = [cut(1, n % 2, "x", f"r{n}") for n in range(4)] + [cut(2, n // 2, f"r{n}", f"s{n}") for n in range(4)]
SIX = [*PAIRS, cut(2, 0, "a", "s0"), cut(2, 0, "b", "s1"), cut(2, 1, "a", "s2"), cut(2, 1, "b", "s3")]
LAST = node("Concat", "s0 s1 s2 s3", "y", axis=-1)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([*EIGHT, LAST], 9),
        ([*SIX, LAST], 7),
        ([*EIGHT, node("Concat", "s0 s1 s2 s3", "y", axis=3)], 9),
        ([*EIGHT, node("Concat", "s0 s1 s2 s3", "y", axis=0)], 0),  # not on the channels
        ([*EIGHT, node("Concat", "s0 s1 s2 s0", "y", axis=-1)], 0),  # a phase twice
        ([*EIGHT, node("Concat", "s0 s1 s2", "y", axis=-1)], 0),
        ([*EIGHT, LAST, node("Relu", "s1", "u")], 0),
        ([*EIGHT[:-1], cut(2, 1, "r3", "s3", step="3"), LAST], 0),
        ([*EIGHT[:-1], cut(2, 1, "z", "s3"), LAST], 0),
        ([*(cut(3, n % 2, "x", f"r{n}") for n in range(4)), *EIGHT[4:], LAST], 0),  # channels cut as well
        ([*(cut(2, n % 2, "x", f"r{n}") for n in range(4)), *EIGHT[4:], LAST], 0),  # one axis cut twice
        ([*(cut(1, n, "x", f"r{n}") for n in range(4)), *EIGHT[4:], LAST], 0),  # not from the first or second on
    ],
)
def test_patch_merging(nodes: list[Make], expected: int) -> None:
    matches = list(import_module("zoo.linting.patterns.patch_merging").find(graph_of(*nodes, constants=MERGING)))
    assert [(len(match), match[0].op) for match in matches] == [(expected, "Concat")] * bool(expected)


def test_patch_merging_with_both_axes_cut_at_once() -> None:
    slices = [node("Slice", f"x starts{n} ends places steps", f"s{n}") for n in range(4)]
    constants = {f"starts{n}": [n % 2, n // 2] for n in range(4)}
    constants |= {"ends": [4, 4], "places": [1, 2], "steps": [2, 2]}
    dims = {"x": (1, 4, 4, 8)}
    (match,) = import_module("zoo.linting.patterns.patch_merging").find(
        graph_of(*slices, LAST, constants=constants, dims=dims)
    )
    assert [each.op for each in match] == ["Concat", "Slice", "Slice", "Slice", "Slice"]
    short = graph_of(*slices, LAST, constants=constants | {"ends": [3, 4]}, dims=dims)
    assert found("patch_merging", short) == []


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([node("Slice", "x", "a"), node("Slice", "x", "b"), node("Concat", "a b", "y", axis=2)], ["yab"]),
        ([node("Slice", "x", "a"), node("Slice", "x", "b"), node("Concat", "a b", "y", axis=3)], []),
        ([node("Slice", "x", "a"), node("Slice", "z", "b"), node("Concat", "a b", "y", axis=2)], []),
        ([node("Slice", "x", "a"), node("Slice", "x", "b"), node("Concat", "a b a", "y", axis=2)], []),
    ],
)
def test_window_shift(nodes: list[Make], expected: list[str]) -> None:
    dims = {"a": (1, 8, 1, 4), "b": (1, 8, 3, 4)}
    assert found("window_shift", graph_of(*nodes, dims=dims)) == expected
    assert found("window_shift", graph_of(*nodes, dims=dims | {"x": None})) == []


def test_constants_are_no_pattern() -> None:
    constants = {"c": [1.0], "s": [1.0], "y": [1.0]}
    assert found("silu", graph_of(node("Sigmoid", "c", "s"), node("Mul", "c s", "y"), constants=constants)) == []


def test_what_is_asked_of_a_node_and_not_known_is_no_match() -> None:
    graph = graph_of(node("HardSigmoid", "x", "h", opset=0), node("Mul", "x h", "y"))
    assert found("hardswish", graph) == []


TWO = [node("Slice", "x", "a"), node("Slice", "x", "b")]


@pytest.mark.parametrize(
    ("pattern", "nodes", "said"),
    [
        ("channel_shuffle", [node("Reshape", "x s", "a"), node("Transpose", "a", "t", perm=3)], {}),
        ("channel_shuffle", [node("Reshape", "- x", "a"), node("Transpose", "a", "t", perm=[0, 2, 1, 3, 4])], {}),
        ("hardswish", [node("HardSigmoid", "x", "h", alpha="a"), node("Mul", "x h", "y")], {}),
        ("hardswish", [node("HardSigmoid", "x", "h", alpha=(1, 2)), node("Mul", "x h", "y")], {}),
        ("layer_norm", [node("ReduceMean", "x", "m", axes=-1), *norm()[1:]], {"constants": NORM}),
        ("layer_norm", [node("ReduceMean", "x", "m", axes="x"), *norm()[1:]], {"constants": NORM}),
        ("gelu_erf", gelu(), {"constants": GELU | {"root": ["text"]}}),
        ("gelu_erf", gelu(), {"constants": GELU | {"root": [ROOT2 + 1j]}}),
        ("gelu_erf", [*gelu()[:4], node("Mul", "m half", "", name="last")], {"constants": GELU}),
        ("patch_merging", [*EIGHT, LAST], {"constants": MERGING | {"axis1": [1, 2]}}),
        ("patch_merging", [*EIGHT, LAST], {"constants": MERGING | {"axis1": [9]}}),
        ("patch_merging", [*EIGHT, LAST], {"constants": MERGING | {"axis1": 1}}),
        ("window_shift", [*TWO, node("Concat", "a b", "y")], {}),
        ("window_shift", [*TWO, node("Concat", "a b", "y", axis="two")], {}),
        ("window_shift", [*TWO, node("Concat", "a b", "y", axis=(2,))], {}),
        ("window_shift", [*TWO, node("Concat", "a b", "y", axis=0)], {"dims": dict.fromkeys("xaby", ())}),
    ],
)
def test_what_is_no_node_of_onnx_is_no_match(pattern: str, nodes: list[Make], said: dict[str, Any]) -> None:
    shuffled = [node("Reshape", "t u", "y")] if pattern == "channel_shuffle" else []
    assert found(pattern, graph_of(*nodes, *shuffled, **({"constants": {"s": [1], "u": [1]}} | said))) == []


def test_each_pattern_has_a_test_here() -> None:
    assert modules("zoo.linting.patterns") == {
        *("attention", "channel_shuffle", "gelu_erf", "hardswish", "layer_norm", "patch_merging", "silu"),
        "window_shift",
    }
