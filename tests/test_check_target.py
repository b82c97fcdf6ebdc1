"""What the check says of a target: the layer, the rule that would help, what a recipe leaves to the host and why."""

import json

import pytest
from pydantic import ValidationError
from small_build import SmallBuild

from zoo.checks.target import findings
from zoo.errors import CheckFailed, StepError
from zoo.linting import left
from zoo.linting.report import Finding, Report, Summary
from zoo.recipe import Recipe
from zoo.targets import reading
from zoo.targets.identity import digest, read_same

SOFTMAX = Finding("error", "n1", "Softmax", "blocks.0.attn", "operator", "Softmax is not accelerated", "")
KERNEL = Finding("error", "n2", "Conv", "stem.conv", "allowed_windows", "kernel 7x7, at most 5x5", "split_kernel")
SUBGRAPHS = Finding("error", "", "", "", "subgraphs", "breaks into 9 subgraphs, of which the runtime takes 4")
COST = Finding("cost", "n3", "Sigmoid", "head", "cost", "Sigmoid is slow")


def report(*found: Finding) -> Report:
    return Report("m", "chip", "", (), found, Summary(0, 0, 0, 0, (), None))


def test_an_error_names_layer_limit_and_rule() -> None:
    (found,) = findings(report(KERNEL), {})
    assert (found.check, found.severity, found.layer) == ("target", "error", "stem.conv")
    assert str(found) == (
        "stem.conv: chip: Conv: kernel 7x7, at most 5x5; rule split_kernel removes it, "
        "or name it with a reason in the recipe's `left`"
    )
    (without_rule,) = findings(report(SOFTMAX), {})
    assert without_rule.cure.startswith("choose another target")


def test_a_layer_is_named_once_and_costs_are_no_errors() -> None:
    found = findings(report(SOFTMAX, Finding(**{**vars(SOFTMAX), "node": "n9"}), COST), {})
    assert [(each.layer, each.severity) for each in found] == [("blocks.0.attn", "error"), ("head", "cost")]


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ("Softmax", {"n1"}),
        ("blocks.*.attn", {"n1"}),
        ("stem.conv", {"n2"}),
        ("*", {"n1", "n2"}),
        ("subgraphs", {""}),
        ("Soft", set()),
        ("operator", set()),
        ("blocks", set()),
    ],
)
def test_what_an_entry_names(entry: str, named: set[str]) -> None:
    found = report(SOFTMAX, KERNEL, SUBGRAPHS)
    assert {each.node for each in found.findings if left.reason(each, {entry: "why"})} == named
    assert left.unmatched(found, {entry: "why"}) == ([] if named else [entry])


def test_what_the_recipe_leaves_is_no_error_and_keeps_its_reason() -> None:
    found = findings(report(SOFTMAX, KERNEL), {"Softmax": "it is small", "stem.*": "once an image"})
    assert [(each.severity, each.cure) for each in found] == [
        ("warning", "left to the host: it is small"),
        ("warning", "left to the host: once an image"),
    ]


def test_an_entry_that_names_no_error_is_one() -> None:
    _, unknown, only_costly = findings(report(COST), {"Erf": "why", "Sigmoid": "why"})
    assert str(unknown) == "the model: chip refuses no 'Erf', which `left` names; take it out"
    assert only_costly.severity == "error"


@pytest.mark.parametrize("entries", [{"Softmax": ""}, {"Softmax": "  "}, {"": "why"}, {"Softmax": None}, ["Softmax"]])
def test_a_recipe_gives_a_reason_for_what_it_leaves(entries: object) -> None:
    recipe = {"source": {"library": "torchvision", "model": "m"}, "task": "classification", "target": "chip"}
    assert Recipe.model_validate({**recipe, "left": {"Softmax": "it is small"}}).left == {"Softmax": "it is small"}
    with pytest.raises(ValidationError, match="left"):
        Recipe.model_validate({**recipe, "left": entries})


def test_a_target_is_the_same_but_for_words_and_ancestors(own_build: SmallBuild) -> None:
    file = own_build.root / "configs/targets/embedded.yaml"
    text, before = file.read_text(), own_build.digests
    file.write_text(text.replace("a device for tests", "reworded").replace("nowhere", "a data sheet"))
    assert own_build.digests == before
    file.write_text(text.replace("Gemm: {}", "Gemm: {}\n  MatMul: {}"))
    assert {name for name, sha256 in own_build.digests.items() if sha256 != before[name]} == {"embedded", "bare"}
    with pytest.raises(StepError, match=r"configs/targets/bare\.yaml was changed while the build ran; build again"):
        read_same("bare", before["bare"], own_build.root)
    assert digest(read_same("bare", own_build.digests["bare"], own_build.root)) == own_build.digests["bare"]
    assert "Relu" not in reading.read("bare", own_build.root).operators


def test_the_step_lints_what_will_be_exported(own_build: SmallBuild) -> None:
    assert own_build.check()["findings"] == []
    lint = json.loads((own_build.folder("check") / "lint.json").read_bytes())
    assert lint["clean"]
    assert lint["summary"]["node_share"] == 1.0
    released = json.loads((own_build.zoo / "models/mobilenet_v3_small_lite/v1/lint.json").read_bytes())
    assert [(node["op"], node["module"]) for node in lint["nodes"]] == [
        (node["op"], node["module"]) for node in released["nodes"]
    ]
    assert lint["summary"] == released["summary"]
    with pytest.raises(CheckFailed, match=r"_lite: features\.0\.2: bare: Relu: .*more in .*findings"):
        own_build.check("bare")
    accepted = own_build.check("bare", left={"Relu": "the host is fast"})["findings"]
    assert accepted
    assert {(each["severity"], each["cure"]) for each in accepted} == {
        ("warning", "left to the host: the host is fast")
    }
