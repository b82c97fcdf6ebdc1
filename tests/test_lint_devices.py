"""What depends on the device, and what is said of a model as a whole."""

from typing import Any

import pytest
from written_graphs import graph_of, limited, node, target_of

from zoo.errors import UnknownName
from zoo.graph.view import Graph
from zoo.linting.lint import lint
from zoo.linting.report import Finding, Report
from zoo.targets.target import Target

DEVICES: dict[str, Any] = {
    "AM1": {"aliases": ["TDA1", "J1"]},
    "AM2": {"not_accelerated": ["Softmax"], "costly": {"Sigmoid": "no table"}},
    "AM3": {"costly": {"Sigmoid": "no table"}},
    "AM0": {"accelerator": False},
}
CHAIN = graph_of(node("Softmax", "x", "a", axis=1), node("Sigmoid", "a", "y"))


def target(**said: Any) -> Target:
    limit = {"kind": "axis_in", "axes": ["width"], "devices": ["AM1"]}
    return target_of(operators={"Softmax": limited(limit), "Sigmoid": {}}, devices=DEVICES, **said)


def linted(graph: Graph, target: Target, device: str = "") -> Report:
    return lint(graph, target, model="m.onnx", target_name="t-1", device=device)


def facts(report: Report) -> dict[str, str]:
    return {finding.limit: finding.fact for finding in report.findings}


def test_for_all_devices_what_one_refuses_is_refused_and_said_which() -> None:
    report = linted(CHAIN, target())
    assert report.device == ""
    assert [judged.verdict for judged in report.nodes] == ["rejected", "accelerated"]
    assert facts(report) == {
        "operator": "Softmax is not accelerated on AM2",
        "axis_in": "along channel; only along width on AM1",
        "cost": "no table on AM2, AM3",
    }


@pytest.mark.parametrize("called", ["AM1", "am1", "tda1", "J1"])
def test_a_device_is_known_by_name_and_alias_in_any_case(called: str) -> None:
    report = linted(CHAIN, target(), called)
    assert report.device == "AM1"
    assert facts(report) == {"axis_in": "along channel; only along width"}


def test_each_device_has_its_own() -> None:
    assert facts(linted(CHAIN, target(), "AM2")) == {"operator": "Softmax is not accelerated", "cost": "no table"}
    third = linted(CHAIN, target(), "AM3")
    assert third.clean
    assert facts(third) == {"cost": "no table"}


def test_an_unknown_device_is_an_error_that_lists_them() -> None:
    with pytest.raises(UnknownName) as raised:
        linted(CHAIN, target(), "AM9")
    assert str(raised.value) == "target t-1: no device 'AM9'; it has AM1 (TDA1, J1), AM2, AM3, AM0"
    with pytest.raises(UnknownName, match="it tells no devices apart, leave the device out"):
        linted(CHAIN, target_of("Relu"), "AM1")


def test_without_an_accelerator_all_runs_on_the_host_and_that_is_said_once() -> None:
    graph = graph_of(node("Add", "c c", "k"), node("Sigmoid", "x", "y"), constants={"c": [1.0], "k": [2.0]})
    report = linted(graph, target(), "AM0")
    assert [judged.verdict for judged in report.nodes] == ["free", "rejected"]
    assert facts(report) == {"device": "AM0 has no accelerator: all of the model runs on the host"}
    assert report.summary.subgraphs == ()
    assert not report.clean


def test_only_devices_without_accelerator_are_not_taken_for_one_that_has() -> None:
    none = target_of("Sigmoid", devices={"AM0": {"accelerator": False}})
    assert facts(linted(CHAIN, none)) == {"device": "no device has an accelerator: all of the model runs on the host"}


def test_a_pattern_that_a_device_does_not_know_is_judged_by_its_nodes_there() -> None:
    graph = graph_of(node("Sigmoid", "x", "s"), node("Mul", "x s", "y"))
    some = target_of("Mul", patterns={"silu": {}}, devices={"A": {}, "B": {"not_accelerated": ["silu"]}})
    assert [judged.verdict for judged in linted(graph, some, "A").nodes] == ["fused", "fused"]
    report = linted(graph, some)
    assert [judged.verdict for judged in report.nodes] == ["rejected", "accelerated"]
    assert facts(report) == {"operator": "Sigmoid is not accelerated on B"}
    assert facts(linted(graph, some, "B")) == {"operator": "Sigmoid is not accelerated"}


def whole(graph: Graph, **said: Any) -> list[Finding]:
    return [finding for finding in linted(graph, target_of("Relu", **said)).findings if not finding.node]


def test_a_later_opset_than_the_importer_reads() -> None:
    graph = graph_of(node("Relu", "x", "y"), opsets={"": 21})
    (finding,) = whole(graph, opset={"max": 20, "export": 18})
    assert (finding.severity, finding.limit) == ("error", "opset")
    assert finding.fact == "opset 21, at most 20: export it in opset 18"
    assert [each.severity for each in whole(graph, opset={"max": 20, "severity": "warning"})] == ["warning"]
    assert whole(graph, opset={"max": 21}) == []


def test_an_opset_that_nobody_tried() -> None:
    graph = graph_of(node("Relu", "x", "y"), opsets={"": 19})
    (finding,) = whole(graph, opset={"validated": [17, 18]})
    assert (finding.severity, finding.fact) == ("warning", "opset 19, validated are 17, 18: export it in opset 18")
    assert whole(graph, opset={"validated": [19]}) == []
    assert whole(graph_of(node("Relu", "x", "y"), opsets={"com.vendor": 1}), opset={"validated": [19]}) == []


def test_a_later_ir_version_than_the_importer_reads() -> None:
    graph = graph_of(node("Relu", "x", "y"), ir_version=10)
    (finding,) = whole(graph, ir_version=9)
    assert (finding.severity, finding.limit) == ("error", "ir_version")
    assert finding.fact.startswith("IR version 10, at most 9: ")
    assert whole(graph, ir_version=10) == []


def test_more_subgraphs_than_the_runtime_takes() -> None:
    ops = ["Relu", "Elu"] * 3
    graph = graph_of(*(node(op, f"v{n}", f"v{n + 1}") for n, op in enumerate(ops)), inputs=["v0"], outputs=["v6"])
    (finding,) = whole(graph, runtime={"max_subgraphs": 2})
    assert (finding.severity, finding.limit) == ("error", "subgraphs")
    assert finding.fact == "breaks into 3 accelerated subgraphs, of which the runtime takes 2"
    assert whole(graph, runtime={"max_subgraphs": 3}) == []


def test_shapes_that_are_not_fixed_are_said_where_they_leave_something_open() -> None:
    dims = {"x": ("batch", 3, None, 8)}
    (finding,) = whole(graph_of(node("Relu", "x", "a", macs=None), node("Relu", "a", "y"), dims=dims))
    assert (finding.severity, finding.limit) == ("warning", "shapes")
    assert finding.fact == (
        "the multiply-accumulates of 1 node are not counted; input x is (batch, 3, ?, 8): export it for fixed shapes"
    )
    assert whole(graph_of(node("Relu", "x", "y"), dims=dims)) == []
    free = graph_of(node("Relu", "c", "k", macs=None), node("Relu", "x", "y"), constants={"c": [1.0], "k": [1.0]})
    assert whole(free) == []
    (inside,) = whole(graph_of(node("Relu", "x", "y", macs=None)))
    assert inside.fact.endswith("are not counted; shapes inside of it are not known")


def test_what_the_reader_notes_is_passed_on() -> None:
    (finding,) = whole(graph_of(node("Relu", "x", "y"), notes=("The nodes were sorted.",)))
    assert (finding.severity, finding.limit, finding.fact) == ("warning", "graph", "The nodes were sorted.")


def test_what_cannot_be_checked_is_passed_on() -> None:
    report = linted(CHAIN, target_of("Softmax", "Sigmoid", unchecked=["signed inputs"]))
    assert report.unchecked == ("signed inputs",)
