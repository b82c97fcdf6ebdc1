"""Verdicts on nodes, and what is said of them."""

from typing import Any

import pytest
from written_graphs import graph_of, limited, node, target_of

from zoo.errors import UnknownName
from zoo.graph.view import Graph
from zoo.linting.lint import lint
from zoo.linting.report import Finding, Report, Verdict
from zoo.targets.target import Target

WIDTH_ONLY = {"kind": "axis_in", "axes": ["width"]}


def linted(graph: Graph, target: Target, **said: Any) -> Report:
    return lint(graph, target, model="m.onnx", target_name="t", **said)


def verdicts(report: Report) -> dict[str, str]:
    return {judged.node: judged.verdict.value for judged in report.nodes}


def only(report: Report) -> Finding:
    (finding,) = report.findings
    return finding


def test_listed_operators_are_accelerated_and_others_are_not() -> None:
    report = linted(graph_of(node("Relu", "x", "a"), node("Elu", "a", "y", module="net.act")), target_of("Relu"))
    assert verdicts(report) == {"a": "accelerated", "y": "rejected"}
    finding = only(report)
    assert (finding.severity, finding.node, finding.op, finding.module) == ("error", "y", "Elu", "net.act")
    assert (finding.limit, finding.fact) == ("operator", "Elu is not accelerated")
    assert not report.clean


def test_a_constant_is_free_whatever_makes_it() -> None:
    graph = graph_of(node("Einsum", "c", "k"), node("Add", "x k", "y"), constants={"c": [1.0], "k": [2.0]})
    report = linted(graph, target_of("Add"))
    assert verdicts(report) == {"k": "free", "y": "accelerated"}
    assert report.clean
    assert (report.summary.nodes, report.summary.accelerated_nodes) == (1, 1)


def test_a_limit_of_severity_error_rejects_and_others_do_not() -> None:
    graph = graph_of(node("Softmax", "x", "y", axis=1))
    for severity, verdict in (("error", "rejected"), ("warning", "accelerated"), ("cost", "accelerated")):
        target = target_of(operators={"Softmax": limited({**WIDTH_ONLY, "severity": severity})})
        report = linted(graph, target)
        assert verdicts(report) == {"y": verdict}
        assert (only(report).severity, only(report).limit) == (severity, "axis_in")
        assert "channel" in only(report).fact
        assert report.clean == (severity != "error")


def test_a_limit_that_holds_says_nothing() -> None:
    target = target_of(operators={"Softmax": limited(WIDTH_ONLY)})
    assert linted(graph_of(node("Softmax", "x", "y", axis=3)), target).findings == ()


@pytest.mark.parametrize(("severity", "verdict"), [("error", "unknown"), ("warning", "accelerated")])
def test_what_the_file_does_not_tell_is_a_warning_that_says_so(severity: str, verdict: str) -> None:
    graph = graph_of(node("Softmax", "x", "y", axis=3), dims={"x": None, "y": None})
    target = target_of(operators={"Softmax": limited({**WIDTH_ONLY, "severity": severity})})
    report = linted(graph, target)
    assert verdicts(report) == {"y": verdict}
    of_model, of_node = report.findings
    assert of_node.severity == of_model.severity == "warning"
    assert of_node.fact.startswith("axis_in cannot be checked: the shape of")
    assert of_model.fact == "1 node cannot be judged in full; input x has no shape: export it for fixed shapes"
    assert report.summary.accelerated_nodes == (verdict == "accelerated")


def test_what_is_broken_counts_more_than_what_is_not_known() -> None:
    rank = {"kind": "rank", "max": 3, "of": "variables"}
    target = target_of(operators={"Softmax": limited(rank, {"kind": "plane_max", "value": 4})})
    report = linted(graph_of(node("Softmax", "x", "y"), dims={"x": (1, 2, "h", "w")}), target)
    assert verdicts(report) == {"y": "rejected"}
    assert {finding.limit for finding in report.findings} == {"rank", "plane_max", "shapes"}


def test_a_limit_that_fails_is_a_bug_that_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    target = target_of(operators={"Softmax": limited(WIDTH_ONLY)})

    def fails(self: object, node: object) -> None:
        raise IndexError("a bug")

    monkeypatch.setattr(type(target.operators["Softmax"].limits[0]), "broken", fails)
    with pytest.raises(IndexError):
        linted(graph_of(node("Softmax", "x", "y")), target)


def test_ends_are_what_reads_the_input_or_makes_the_output() -> None:
    target = target_of("Relu", operators={"Cast": {"status": "ends_only"}})
    chain = [node("Cast", "x", "a"), node("Relu", "a", "b"), node("Cast", "b", "c"), node("Relu", "c", "d")]
    report = linted(graph_of(*chain, node("Cast", "d", "y")), target)
    assert verdicts(report) == dict.fromkeys("abdy", "accelerated") | {"c": "rejected"}
    assert only(report).limit == "ends_only"
    assert linted(graph_of(node("Cast", "x", "a"), node("Cast", "a", "y")), target).clean
    behind = graph_of(node("Relu", "x", "a"), node("Cast", "a", "b"), node("Relu", "b", "y"))
    assert verdicts(linted(behind, target))["b"] == "rejected"


def test_an_end_is_not_looked_for_through_other_nodes_and_constants_are_none() -> None:
    target = target_of("Reshape", "Add", operators={"Sigmoid": {"status": "ends_only"}})
    through = graph_of(
        node("Add", "x x", "a"), node("Sigmoid", "a", "b"), node("Reshape", "b s", "y"), constants={"s": [2]}
    )
    assert verdicts(linted(through, target))["b"] == "rejected"
    beside = graph_of(node("Sigmoid", "x", "y"), outputs=["y"])
    assert linted(beside, target).clean


def test_the_boundary_is_an_end_and_the_host_has_what_is_behind_it() -> None:
    target = target_of("Conv", operators={"Sigmoid": {"status": "ends_only"}})
    graph = graph_of(
        node("Conv", "x", "a"),
        node("Sigmoid", "a", "b"),
        node("TopK", "b", "c"),
        node("Gather", "c a", "d"),
        node("Exp", "c", "y"),
        outputs=["d", "y"],
    )
    report = linted(graph, target, host=frozenset({"b"}))
    assert verdicts(report) == {"a": "accelerated", "b": "accelerated", "c": "host", "d": "rejected", "y": "host"}
    assert report.summary.nodes == 3
    assert verdicts(linted(graph, target))["b"] == "rejected"


def test_a_boundary_that_is_not_there_is_said() -> None:
    with pytest.raises(UnknownName, match=r"m\.onnx: no value 'scores' .* did you mean 'score'\?"):
        linted(graph_of(node("Relu", "x", "score"), outputs=["score"]), target_of("Relu"), host=frozenset({"scores"}))


def test_operators_of_other_domains_and_control_flow_are_rejected_though_listed() -> None:
    graph = graph_of(
        node("Relu", "x", "a", domain="com.vendor"),
        node("If", "a inner", "y"),
        node("Relu", "a", "inner", within="y"),
        node("Relu", "y", "z", domain="ai.onnx"),
    )
    graph = Graph((graph.nodes[0], graph.nodes[2], graph.nodes[1], graph.nodes[3]), graph.inputs, graph.outputs, {}, 9)
    report = linted(graph, target_of("Relu", "If"))
    assert verdicts(report) == {"a": "rejected", "inner": "rejected", "y": "rejected", "z": "accelerated"}
    facts = {finding.limit: finding.fact for finding in report.findings}
    assert facts["domain"] == "com.vendor.Relu is not one of ONNX's own operators"
    assert facts["control_flow"].startswith("If decides while the model runs what is computed; export the model")
    assert len(report.findings) == 2  # what is inside of the If goes with it


def test_costs_are_said_of_what_is_accelerated() -> None:
    report = linted(
        graph_of(node("Sigmoid", "x", "y")), target_of(operators={"Sigmoid": {"cost": "a table of 256 entries"}})
    )
    assert verdicts(report) == {"y": "accelerated"}
    assert (only(report).severity, only(report).limit, only(report).fact) == ("cost", "cost", "a table of 256 entries")
    assert report.clean


def test_every_verdict_is_met_here() -> None:
    silu = {"patterns": {"silu": {}}}
    graph = graph_of(
        node("Einsum", "c", "k"),
        node("Sigmoid", "x", "s"),
        node("Mul", "x s", "m"),
        node("Relu", "m", "r"),
        node("Elu", "r", "e"),
        node("Softmax", "e", "boundary"),
        node("Exp", "boundary", "y"),
        constants={"c": [1.0], "k": [1.0]},
        dims={"e": None, "boundary": None},
    )
    target = target_of("Relu", operators={"Softmax": limited({"kind": "plane_max", "value": 64})}, **silu)
    found = verdicts(linted(graph, target, host=frozenset({"boundary"})))
    assert set(found.values()) == {verdict.value for verdict in Verdict}
    assert found["s"] == found["m"] == "fused"
