"""ONNX models, read and linted."""

import json
from typing import Any

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from small_graphs import model, node, tensor, value, weight
from written_graphs import Make, graph_of, limited, target_of
from written_graphs import node as written

from zoo.graph.reading import read
from zoo.linting.lint import lint
from zoo.linting.report import Report, Verdict
from zoo.targets.reading import names
from zoo.targets.reading import read as profile
from zoo.targets.target import Target

WINDOW = {"kind": "allowed_windows", "only": [{"kernel_max": 3}]}
WIDTH = {"kind": "axis_in", "axes": ["width"]}
PLANE = {"kind": "plane_max", "value": 64}


def linted(made: onnx.ModelProto, target: Target, **said: Any) -> Report:
    return lint(read(made), target, model="m.onnx", target_name="t", **said)


def verdicts(report: Report) -> dict[str, str]:
    return {judged.op: judged.verdict.value for judged in report.nodes}


def network(size: int = 3, **said: Any) -> onnx.ModelProto:
    """A convolution, a pattern, a product of constants, a pooling and a layer at the end."""
    nodes = [
        node("Conv", "x w", "c", kernel_shape=[size, size]),
        node("Sigmoid", "c", "s"),
        node("Mul", "c s", "m"),
        node("Add", "one one", "two"),
        node("Sub", "m two", "d"),
        node("GlobalAveragePool", "d", "p"),
        node("Flatten", "p", "f"),
        node("Gemm", "f v", "y"),
    ]
    weights = [weight("w", 4, 3, size, size), tensor("one", 1.0, "float32"), weight("v", 4, 2)]
    return model(nodes, weights, outputs=[value("y", (1, 2))], **said)


def test_a_network_that_a_target_takes() -> None:
    limits = {"Conv": limited(WINDOW), "GlobalAveragePool": limited(PLANE)}
    target = target_of("Sub", "Flatten", "Gemm", operators=limits, patterns={"silu": {}})
    report = linted(network(), target)
    assert report.clean
    assert report.findings == ()
    assert verdicts(report)["Sigmoid"] == verdicts(report)["Mul"] == "fused"
    assert verdicts(report)["Add"] == "free"
    assert (report.summary.node_share, report.summary.mac_share) == (1, 1)
    assert report.summary.macs == 4 * 3 * 9 * 36 + 4 * 2
    assert [(part.nodes, part.macs) for part in report.summary.subgraphs] == [(7, report.summary.macs)]


def test_a_network_of_which_it_refuses_a_kernel() -> None:
    target = target_of(
        "Sub", "Flatten", "Gemm", "Sigmoid", "Mul", "GlobalAveragePool", operators={"Conv": limited(WINDOW)}
    )
    report = linted(network(5), target)
    (finding,) = report.findings
    assert (finding.op, finding.limit, finding.severity) == ("Conv", "allowed_windows", "error")
    assert "kernel 5x5" in finding.fact
    assert report.summary.mac_share < 0.01


def test_without_shapes_verdicts_are_open_and_why_is_said() -> None:
    target = target_of("Relu", operators={"GlobalAveragePool": limited(PLANE)})
    made = model([node("Relu", "x", "r"), node("GlobalAveragePool", "r", "y")], inputs=[value("x")])
    report = linted(made, target)
    assert verdicts(report) == {"Relu": "accelerated", "GlobalAveragePool": "unknown"}
    assert {finding.severity for finding in report.findings} == {"warning"}
    (shapes,) = (finding for finding in report.findings if finding.limit == "shapes")
    assert "input x has no shape: export it for fixed shapes" in shapes.fact


def branches() -> onnx.ModelProto:
    bodies = [
        helper.make_graph([node(op, "x", f"b{op}", name=op)], op, [], [value(f"b{op}", (1, 3, 8, 8))])
        for op in ("Relu", "Elu")
    ]
    choice = helper.make_node("If", ["c"], ["i"], then_branch=bodies[0], else_branch=bodies[1])
    inputs = [value("x", (1, 3, 8, 8)), value("c", (), TensorProto.BOOL)]
    return model([node("Relu", "x", "r"), choice, node("Add", "r i", "y")], inputs=inputs)


def test_control_flow_is_refused_with_all_that_is_inside() -> None:
    report = linted(branches(), target_of("Relu", "Elu", "Add", "If"))
    assert sorted((judged.op, judged.verdict.value) for judged in report.nodes) == [
        ("Add", "accelerated"),
        ("Elu", "rejected"),
        ("If", "rejected"),
        ("Relu", "accelerated"),
        ("Relu", "rejected"),
    ]
    (finding,) = report.of_severity("error")
    assert (finding.op, finding.limit) == ("If", "control_flow")


def test_another_domain_is_refused() -> None:
    made = model([node("Relu", "x", "a"), node("Relu", "a", "y", domain="com.vendor")], domains=["com.vendor"])
    report = linted(made, target_of("Relu"))
    (finding,) = report.of_severity("error")
    assert finding.fact == "com.vendor.Relu is not one of ONNX's own operators"


PROFILES = names()


def test_there_are_profiles() -> None:
    assert len(PROFILES) >= 8


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_and_device_judges_every_kind_of_node(name: str) -> None:
    target = profile(name)
    for made in (network(5), branches()):
        for device in ("", *target.device_names):
            report = linted(made, target, device=device)
            check(report)
            assert json.loads(json.dumps(report.to_json()))["clean"] == report.clean


def check(report: Report) -> None:
    """What holds of any report."""
    about: dict[str, set[str]] = {}
    for finding in report.findings:
        about.setdefault(finding.node, set()).add(finding.severity)
    everywhere = any(finding.limit in ("device", "control_flow") for finding in report.findings)
    for judged in report.nodes:
        said = about.get(judged.node, set())
        assert (judged.subgraph is not None) == (judged.verdict in (Verdict.ACCELERATED, Verdict.FUSED))
        if judged.verdict in (Verdict.FREE, Verdict.HOST):
            assert not said
        elif judged.verdict is Verdict.REJECTED:
            assert "error" in said or everywhere
        else:
            assert "error" not in said
            assert judged.verdict is not Verdict.UNKNOWN or "warning" in said
    assert sum(part.nodes for part in report.summary.subgraphs) == report.summary.accelerated_nodes
    assert 0 <= report.summary.node_share <= 1
    assert report.clean == ("error" not in set().union(*about.values()))


OPERATORS = ("Relu", "Sigmoid", "Mul", "Softmax", "Cast", "Elu", "GlobalAveragePool")
ENTRY = st.sampled_from(
    [
        {},
        {"status": "ends_only"},
        {"status": "fused_only"},
        {"cost": "slow"},
        limited(PLANE),
        limited({**PLANE, "devices": ["B"]}),
        limited({**PLANE, "severity": "warning"}),
    ]
)


@st.composite
def graphs(draw: st.DrawFn) -> list[Make]:
    made = []
    for n in range(draw(st.integers(1, 10))):
        op = draw(st.sampled_from(OPERATORS))
        read = [draw(st.sampled_from(["x", "k", *(f"v{m}" for m in range(n))])) for _ in range(1 + (op == "Mul"))]
        made.append(written(op, " ".join(read), f"v{n}", axis=draw(st.sampled_from([1, 3]))))
    return made


@settings(max_examples=150, deadline=None)
@given(
    graphs(),
    st.dictionaries(st.sampled_from(OPERATORS), ENTRY),
    st.sampled_from([{}, {"silu": {}}, {"silu": {"cost": "in two"}}]),
    st.sampled_from([{}, {"A": {}, "B": {}}, {"A": {"not_accelerated": ["Mul"]}, "B": {"accelerator": False}}]),
    st.sets(st.sampled_from(["v0", "v1", "v2"])),
)
def test_of_any_graph_and_target_all_is_said(
    nodes: list[Make], operators: dict[str, Any], patterns: dict[str, Any], devices: dict[str, Any], boundary: set[str]
) -> None:
    dims = {"v1": None, "v3": (1, 8, 16, 16), "v5": (1, 8, "h", 4)}
    graph = graph_of(*nodes, constants={"k": [1.0]}, dims=dims, outputs=[f"v{len(nodes) - 1}"])
    made = {value.name for each in graph.nodes for value in each.outputs}
    known = {op: entry for op, entry in operators.items() if devices or "devices" not in str(entry)}
    devices = devices if "Mul" in known or "A" not in devices else {"A": {}, "B": {}}
    target = target_of(operators=known, patterns=patterns, devices=devices)
    for device in ("", *devices):
        report = lint(graph, target, model="m", target_name="t", device=device, host=frozenset(boundary & made))
        check(report)
        assert [judged.node for judged in report.nodes] == [each.name for each in graph.nodes]
