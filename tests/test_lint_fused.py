"""Patterns that a target lists: as layers of their own, or as what it runs in parts and at a cost."""

from typing import Any

import pytest
from written_graphs import Make, graph_of, limited, node, target_of

from zoo.linting import recognising
from zoo.linting.lint import lint
from zoo.linting.recognising import Recognised
from zoo.linting.report import Report
from zoo.targets.target import Target

SILU = [node("Sigmoid", "x", "s"), node("Mul", "x s", "m"), node("Relu", "m", "y")]
ATTENTION = [
    node("MatMul", "x k", "q"),
    node("Softmax", "q", "p", axis=1, module="block.attn"),
    node("MatMul", "p v", "y"),
]
WIDTH = {"kind": "axis_in", "axes": ["width"]}


def linted(nodes: list[Make], target: Target, **said: Any) -> Report:
    return lint(graph_of(*nodes, **said), target, model="m", target_name="t")


def verdicts(report: Report) -> list[str]:
    return [judged.verdict.value for judged in report.nodes]


def said(report: Report) -> list[tuple[str, str, str, str]]:
    return [(finding.node, finding.op, finding.severity, finding.limit) for finding in report.findings]


def test_the_nodes_of_a_listed_pattern_are_fused_whether_they_are_listed_or_not() -> None:
    for operators in ((), ("Mul", "Sigmoid")):
        report = linted(SILU, target_of("Relu", *operators, patterns={"silu": {}}))
        assert verdicts(report) == ["fused", "fused", "accelerated"]
        assert report.findings == ()
        assert [part.nodes for part in report.summary.subgraphs] == [3]


def test_an_operator_that_is_only_fused_is_refused_elsewhere() -> None:
    target = target_of("Relu", "Mul", operators={"Sigmoid": {"status": "fused_only"}}, patterns={"silu": {}})
    assert verdicts(linted(SILU, target)) == ["fused", "fused", "accelerated"]
    report = linted([node("Sigmoid", "x", "s"), *SILU[2:]], target)
    assert verdicts(report) == ["rejected", "accelerated"]
    assert said(report) == [("s", "Sigmoid", "error", "fused_only")]


def test_a_pattern_may_be_said_to_be_fused_itself() -> None:
    report = linted(SILU, target_of("Relu", patterns={"silu": {"status": "fused_only"}}))
    assert verdicts(report) == ["fused", "fused", "accelerated"]


def test_a_pattern_that_is_not_listed_is_judged_by_its_nodes() -> None:
    report = linted(SILU, target_of("Relu", "Mul"))
    assert verdicts(report) == ["rejected", "accelerated", "accelerated"]


@pytest.mark.parametrize(("severity", "verdict"), [("error", "rejected"), ("warning", "fused"), ("cost", "fused")])
def test_a_pattern_that_breaks_its_limit_does_so_as_a_whole_and_it_is_said_once(severity: str, verdict: str) -> None:
    target = target_of("MatMul", "Softmax", patterns={"attention": limited({**WIDTH, "severity": severity})})
    report = linted(ATTENTION, target)
    assert verdicts(report) == [verdict] * 3
    assert said(report) == [("p", "attention", severity, "axis_in")]
    assert report.findings[0].module == "block.attn"


def test_a_pattern_of_which_the_file_does_not_tell_enough_is_open_as_a_whole() -> None:
    target = target_of(patterns={"attention": limited(WIDTH)})
    report = linted(ATTENTION, target, dims={"q": None, "p": None})
    assert verdicts(report) == ["unknown"] * 3
    assert said(report)[1:] == [("p", "attention", "warning", "axis_in")]


def test_a_pattern_that_is_accelerated_at_the_ends_only() -> None:
    target = target_of("Relu", patterns={"silu": {"status": "ends_only"}})
    assert verdicts(linted(SILU, target)) == ["fused", "fused", "accelerated"]
    inside = [node("Relu", "x", "a"), node("Sigmoid", "a", "s"), node("Mul", "a s", "m"), SILU[2]]
    report = linted(inside, target)
    assert verdicts(report) == ["accelerated", "rejected", "rejected", "accelerated"]
    assert said(report) == [("s", "silu", "error", "ends_only")]


COSTLY = {"silu": {"cost": "runs in two steps"}}


def test_a_pattern_with_a_cost_is_judged_by_its_nodes_and_costs_once() -> None:
    report = linted(SILU, target_of("Relu", "Mul", "Sigmoid", patterns=COSTLY))
    assert verdicts(report) == ["accelerated"] * 3
    assert said(report) == [("s", "silu", "cost", "cost")]
    assert report.findings[0].fact == "runs in two steps"


def test_a_pattern_that_does_not_run_costs_nothing() -> None:
    report = linted(SILU, target_of("Relu", "Mul", patterns=COSTLY))
    assert verdicts(report) == ["rejected", "accelerated", "accelerated"]
    assert said(report) == [("s", "Sigmoid", "error", "operator")]


def test_a_node_is_fused_into_the_larger_of_two_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_of(*SILU)
    small, large = Recognised("silu", graph.nodes[:2]), Recognised("attention", graph.nodes)
    monkeypatch.setattr(recognising, "patterns_in", lambda graph, names: iter((small, large)))
    target = target_of(patterns={"silu": {}, "attention": {}})
    assert recognising.layers(graph, target, frozenset({""}), frozenset()) == (large,)
    assert recognising.layers(graph, target, frozenset({""}), frozenset({id(graph.nodes[2])})) == (small,)


def test_a_pattern_that_reaches_behind_the_boundary_is_none() -> None:
    target = target_of("Relu", patterns={"silu": {}})
    graph = graph_of(*SILU)
    report = lint(graph, target, model="m", target_name="t", host=frozenset({"s", "x"}))
    assert verdicts(report) == ["host", "host", "host"]
    report = lint(graph, target, model="m", target_name="t", host=frozenset({"m"}))
    assert verdicts(report) == ["fused", "fused", "host"]


def test_constants_make_no_pattern() -> None:
    nodes = [node("Sigmoid", "c", "s"), node("Mul", "c s", "m"), node("Add", "x m", "y")]
    report = linted(nodes, target_of("Add", patterns={"silu": {}}), constants={"c": [1.0], "s": [1.0], "m": [1.0]})
    assert verdicts(report) == ["free", "free", "accelerated"]
