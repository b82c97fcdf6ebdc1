"""How a lint report is written: as text, JSON, SARIF and HTML."""

import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from lint_reports import HOSTILE, clean, finding, hostile, mixed, node

from zoo.linting import formats, wording
from zoo.linting.formats import table
from zoo.linting.formats.table import write_with_nodes
from zoo.linting.report import Finding, Report, Summary, Verdict

REPORTS = {"mixed": mixed(), "clean": clean(), "hostile": hostile()}
EVERY = [(name, report) for name in formats.names() for report in REPORTS]


def test_the_folder_holds_the_four_formats() -> None:
    assert formats.names() == ["html", "json", "sarif", "table"]


@pytest.mark.parametrize(("name", "report"), EVERY)
def test_every_format_writes_whole_lines_that_no_terminal_obeys(name: str, report: str) -> None:
    text = formats.find(name).write(REPORTS[report])
    assert text.endswith("\n")
    assert not [line for line in text.split("\n") if not line.isprintable()]
    assert text == formats.find(name).write(REPORTS[report])


def test_the_table_answers_first_then_groups_then_sums_up() -> None:
    assert (
        formats.find("table").write(mixed())
        == """\
model.onnx: not clean on tidl-9.1 (AM62A): 34 of 65 nodes are not accelerated

35 errors: not accelerated, or not imported
    1x  model: opset 20, the device reads up to 18
   30x  Mul (silu) is not accelerated -> rule silu_to_relu
        features.1, features.3, features.5 and 27 more
    3x  GlobalAveragePool: plane 56x56, at most 1024 elements (and 1 other value) -> no rule known
        features.61, features.62, features.63
    1x  Conv: kernel 9x9, at most 7x7 -> rule split_kernel
        features.60

1 warning: not validated by the device's maker, or the file does not tell
    1x  Resize: cannot check rank: the shape of x is not known
        node_64

1 cost: accelerated, but slow or less exact
    1x  Conv: runs slowly on AM62A
        features.0

accelerated  46.2 % of nodes (30 of 65), 76.9 % of MACs (30.0 M of 39.0 M)
runs in      30 subgraphs, more than the 16 that the runtime takes; the largest has 1 node and 2.6 %
             of MACs
left out     1 node of constants, 1 node that the host runs by design
rules        silu_to_relu removes 30 errors, split_kernel removes 1 error, no rule known for 3
             errors
unchecked    2 limits cannot be checked in a float model (--format json lists them)
"""
    )


def test_a_clean_model_says_so_in_two_lines() -> None:
    assert formats.find("table").write(clean()).splitlines() == [
        "net: clean on generic_int8: all 2 nodes are accelerated",
        "500 MACs in 1 subgraph",
    ]


@pytest.mark.parametrize("report", REPORTS)
def test_the_table_fits_a_terminal(report: str) -> None:
    headline, *lines = write_with_nodes(REPORTS[report]).splitlines()
    assert max(map(len, lines)) <= 100
    assert len(headline) <= 130


def test_every_node_has_its_line_in_order() -> None:
    lines = write_with_nodes(mixed()).splitlines()
    start = lines.index("67 nodes, in the order in which they run") + 2
    assert [line.split() for line in lines[start : start + 3]] == [
        ["free", "-", "0", "Shape", "shape"],
        ["accelerated", "0", "1.0", "M", "Conv", "features.0"],
        ["rejected", "-", "0", "Mul", "features.1"],
    ]
    assert lines[start + 66].split() == ["host", "-", "0", "TopK", "decode"]
    assert lines[start + 67] == ""


def test_different_values_of_one_limit_are_one_group() -> None:
    pools = [node(n, "AveragePool", Verdict.REJECTED) for n in range(5)]
    findings = tuple(finding(each, "plane", f"plane of {n}") for n, each in enumerate(pools))
    text = formats.find("table").write(Report("m", "t", "", tuple(pools), findings, Summary(5, 0, 0, 0, (), None)))
    assert "    5x  AveragePool: plane of 0 (and 4 other values) -> no rule known\n" in text


@pytest.mark.parametrize(
    ("share", "shown"),
    [(1.0, "100.0 %"), (0.99999, "99.9 %"), (0.00001, "0.1 %"), (0.0, "0.0 %"), (0.4688, "46.9 %")],
)
def test_a_share_is_all_or_nothing_only_where_it_is(share: float, shown: str) -> None:
    assert wording.percent(share) == shown


@pytest.mark.parametrize(
    ("macs", "shown"), [(0, "0"), (999, "999"), (61_300, "61.3 k"), (217_300_000, "217.3 M"), (4_089_000_000, "4.09 G")]
)
def test_amounts(macs: int, shown: str) -> None:
    assert wording.amount(macs) == shown


def test_a_model_that_cannot_be_judged_is_not_praised() -> None:
    unknown = (node(0, "Conv", Verdict.UNKNOWN), node(1, "Relu", Verdict.ACCELERATED, 0, 0))
    told = finding(unknown[0], "kernel", "cannot check kernel", severity="warning")
    report = Report("m", "t", "", unknown, (told,), Summary(2, 1, 0, 0, (), None))
    assert wording.headline(report) == "m: open on t: nothing is refused, but 1 of 2 nodes cannot be judged"
    nothing = Report("m", "t", "", (), (), Summary(0, 0, 0, 0, (), None))
    assert wording.headline(nothing) == "m: clean on t: it has no node to run there"


def test_json_holds_everything() -> None:
    found = json.loads(formats.find("json").write(mixed()))
    assert found == json.loads(json.dumps(mixed().to_json()))
    assert (found["clean"], found["target"], found["device"]) == (False, "tidl-9.1", "AM62A")
    assert (len(found["nodes"]), len(found["findings"]), found["unchecked"]) == (67, 37, ["signs", "ranges"])
    assert found["summary"]["node_share"] == 30 / 65
    assert list(found) == sorted(found)
    assert json.loads(formats.find("json").write(hostile()))["nodes"][0]["node"] == HOSTILE


def sarif(report: Report) -> dict[str, Any]:
    log: dict[str, Any] = json.loads(formats.find("sarif").write(report))
    return log


@pytest.mark.parametrize("name", REPORTS)
def test_sarif_is_what_the_standard_asks_for(name: str) -> None:
    report, log = REPORTS[name], sarif(REPORTS[name])
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    assert set(run) == {"tool", "automationDetails", "artifacts", "results", "properties"}
    driver = run["tool"]["driver"]
    assert driver["name"] == "lite-zoo"
    rules = driver["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules) == len({each.limit for each in report.findings})
    for rule in rules:
        assert set(rule) == {"id", "name", "shortDescription", "fullDescription", "defaultConfiguration"}
        assert re.fullmatch(r"[A-Z][A-Za-z0-9]*", rule["name"])
        assert rule["shortDescription"]["text"].endswith(".")
        assert rule["fullDescription"]["text"].endswith(".")
        assert rule["defaultConfiguration"]["level"] in ("error", "warning", "note")
    (artifact,) = run["artifacts"]
    assert re.fullmatch(r"[A-Za-z0-9._~%/\-]+", artifact["location"]["uri"])
    assert artifact["roles"] == ["analysisTarget"]
    assert len(run["results"]) == len(report.findings)
    for result, found in zip(run["results"], report.findings, strict=True):
        check_result(result, found.limit, rules, artifact["location"]["uri"])
        kinds = [each["kind"] for each in result["locations"][0].get("logicalLocations", [])]
        assert kinds == ["module"] * bool(found.module) + ["object"] * bool(found.node)
    assert run["properties"]["clean"] is report.clean


def check_result(result: dict[str, Any], limit: str, rules: list[dict[str, Any]], uri: str) -> None:
    assert result["ruleId"] == limit == rules[result["ruleIndex"]]["id"]
    assert result["level"] in ("error", "warning", "note")
    assert result["message"]["text"].isprintable()
    assert 0 < len(result["message"]["text"]) <= 1000
    (location,) = result["locations"]
    physical = location["physicalLocation"]
    assert physical == {"artifactLocation": {"uri": uri, "index": 0}, "region": {"startLine": 1}}
    for logical in location.get("logicalLocations", []):
        assert set(logical) == {"name", "fullyQualifiedName", "kind"}
        assert logical["fullyQualifiedName"].endswith(logical["name"]) or "..." in logical["name"]
    assert re.fullmatch(r"[0-9a-f]{16}:1", result["partialFingerprints"]["primaryLocationLineHash"])


def test_sarif_tells_severities_and_places() -> None:
    (run,) = sarif(mixed())["runs"]
    levels = [result["level"] for result in run["results"]]
    assert (levels.count("error"), levels.count("warning"), levels.count("note")) == (35, 1, 1)
    fingerprints = {result["partialFingerprints"]["primaryLocationLineHash"] for result in run["results"]}
    assert len(fingerprints) == 37  # equal ones would be shown as one
    second = run["results"][1]
    assert second["message"]["text"] == "Mul at features.1: Mul is not accelerated; rule silu_to_relu removes it"
    assert second["locations"][0]["logicalLocations"] == [
        {"name": "1", "fullyQualifiedName": "features.1", "kind": "module"},
        {"name": "node_1", "fullyQualifiedName": "node_1", "kind": "object"},
    ]
    assert run["automationDetails"]["id"] == "zoo-lint/tidl-9.1/AM62A/"
    assert sarif(clean())["runs"][0]["results"] == []


@pytest.mark.parametrize(
    ("model", "uri"),
    [
        ("models/a b.onnx", "models/a%20b.onnx"),
        ("/srv/x#1.onnx", "file:///srv/x%231.onnx"),
        ("./m.onnx", "m.onnx"),
        ("https://x/m.onnx", "https%3A/x/m.onnx"),
        (os.fsdecode(b"bad\xff.onnx"), "bad%FF.onnx"),
        (os.fsdecode(b"/srv/bad\xff.onnx"), "file:///srv/bad%FF.onnx"),
    ],
)
def test_sarif_names_the_file_by_a_uri(model: str, uri: str) -> None:
    report = Report(model, "t", "", (), (), Summary(0, 0, 0, 0, (), None))
    assert sarif(report)["runs"][0]["artifacts"][0]["location"]["uri"] == uri


class Page(HTMLParser):
    """Tags that are open, in turn, and all that a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.parametrize("name", REPORTS)
def test_a_page_is_whole_and_asks_for_nothing_from_elsewhere(name: str) -> None:
    text = formats.find("html").write(REPORTS[name])
    page = Page(text)
    assert page.open == []
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "base", "form"})
    for _, attributes in page.tags:
        assert not {each for each in attributes if each.startswith("on") or each in ("src", "href", "action")}
    assert "url(" not in text
    assert "@import" not in text
    (policy,) = [each["content"] for each in page.of("meta") if each.get("http-equiv")]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    labels = [each["for"] for each in page.of("label")]
    assert sorted(map(str, labels)) == sorted(str(each["id"]) for each in page.of("input"))


def test_a_page_shows_names_of_a_file_as_text_only() -> None:
    page = Page(formats.find("html").write(hostile()))
    assert any("</title><script>alert('x')</script>\\x1b[31m" in word for word in page.words)
    assert len(page.of("title")) == 1


def test_a_page_draws_the_graph_and_lists_every_node() -> None:
    text = formats.find("html").write(mixed())
    page = Page(text)
    bar = [each for each in page.of("span") if "style" in each]
    assert sum(int(str(each["style"]).removeprefix("flex-grow:")) for each in bar) == 66  # all but the constant
    assert [str(each["class"]).split()[0] for each in bar[:3]] == ["accelerated", "rejected", "accelerated"]
    assert bar[-3]["title"] == "not accelerated: 5 nodes, features.59 to features.63"
    assert text.count("<tr class=") == 67 + 6
    for verdict in Verdict:
        assert f"#nodes-{verdict}:checked ~ .scroll tbody tr:not(.{verdict}) {{ display: none }}" in text
    assert [each["id"] for each in page.of("input") if "checked" in each] == ["findings-all", "nodes-all"]
    shown = {str(each["id"]) for each in page.of("input")}
    assert shown == {
        *("findings-all", "findings-error", "findings-warning", "findings-cost", "nodes-all"),
        *(f"nodes-{kind}" for kind in ("accelerated", "free", "host", "rejected", "unknown")),
    }


def test_all_that_is_said_of_the_whole_model_is_shown() -> None:
    notes = ("Shapes are wrong.", "The batch is dynamic.")
    said = tuple(Finding("warning", "", "", "", "graph", note) for note in notes)
    shown = table.write(replace(clean(), findings=said))
    assert all(f"1x  model: {note}" in shown for note in notes)
