"""From findings about an exported file to the layers that surgery knows, and what a target is asked about rules."""

from pathlib import Path

import pytest
from choosing_cases import target
from torch import nn

import surgery
from zoo.choosing import dry_run
from zoo.choosing.candidates import concerns, considered, picks
from zoo.choosing.emitted import WRITTEN, hopeless, unlisted
from zoo.choosing.linted import Linted, Rejected, of_model, prefix_of
from zoo.errors import MissingLibrary, UnknownName
from zoo.graph.view import Graph, Node, Value
from zoo.linting.report import Finding, Report, Severity, Summary

ROOT = Path(__file__).parents[1]
RULES = surgery.rules()


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU())


class Wrapper(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


def linted(module: str, deployed: nn.Module, model: nn.Module, torch_op: str | None, op: str = "Mul") -> Linted:
    """A report of one refused node, by layer."""
    node = Node("n", op, (), (Value("y"),), module=module, torch_op=torch_op)
    return of_model(report("n", op, module), Graph((node,), (), (), {"": 18}, 8), model, deployed)


def report(node: str, op: str, module: str, severity: Severity = "error") -> Report:
    finding = Finding(severity, node, op, module, "operator", "refused")
    return Report("m", "t", "", (), (finding,), Summary(1, 0, 0, 0, (), None))


@pytest.mark.parametrize(
    ("module", "layer", "exact"),
    [
        ("network.block.1", "block.1", True),
        ("network.block.1@2", "block.1", True),
        ("network", "", True),
        ("network.block.1.fused", "block.1", False),
        ("decoder.head", "", True),
    ],
)
def test_layers_are_named_as_in_the_model(module: str, layer: str, exact: bool) -> None:
    model = Inner()
    (found,) = linted(module, Wrapper(model), model, "silu").rejected
    assert (found.layer, found.exact, found.operators) == (layer, exact, {"silu"})


def test_a_model_that_is_deployed_as_it_is_has_no_prefix() -> None:
    model = Inner()
    assert (prefix_of(model, model), prefix_of(model, Wrapper(model))) == ("", "network")
    (found,) = linted("block.0", model, model, None, "Conv").rejected
    assert (found.layer, found.operators) == ("block.0", {"convolution", "conv2d"})


def test_errors_alone_are_refused_and_those_of_the_whole_model_stand_apart() -> None:
    graph = Graph((), (), (), {"": 18}, 8)
    model = Inner()
    assert of_model(report("", "", "", "warning"), graph, model, model).clean
    whole = of_model(report("", "", ""), graph, model, model)
    assert (whole.clean, whole.rejected, len(whole.whole)) == (False, (), 1)


def rejected(layer: str, operator: str, exact: bool = True) -> Rejected:
    return Rejected(Finding("error", "n", "Mul", layer, "operator", "x"), layer, frozenset([operator]), exact)


@pytest.mark.parametrize(
    ("site", "params", "layer", "exact", "expected"),
    [
        ("a.b", {}, "a.b", True, True),
        ("a.b", {}, "a.b.c", True, True),
        ("a.b", {}, "a.bc", True, False),
        ("a.b", {}, "a", True, False),
        ("a.b", {}, "a", False, True),
        ("a", {"rewrites": {}, "trace": "x"}, "a.b", True, False),
        ("a", {"rewrites": {}, "trace": "x"}, "a", True, True),
        ("a", {"rewrites": {}, "trace": "x", "gates": []}, "a.b", True, True),
        ("", {"rewrites": {}, "trace": "x"}, "", True, True),
        ("", {}, "a.b", True, False),
    ],
)
def test_which_edits_concern_a_layer(
    site: str, params: dict[str, object], layer: str, exact: bool, expected: bool
) -> None:
    edit = surgery.Edit("gate", site, "x", "same_shape", params)
    assert concerns(edit, rejected(layer, "mul", exact)) is expected


def test_picks_take_the_least_risk_then_what_the_target_lists_then_the_nearest_site() -> None:
    def edit(rule: str, site: str) -> surgery.Edit:
        return surgery.Edit(rule, site, "x", "same_shape")

    made = {
        "hardswish_to_relu": (edit("hardswish_to_relu", "a.act"),),
        "squeeze_excite": (edit("squeeze_excite", "a"),),
        "spell_out_hardswish": (edit("spell_out_hardswish", "a.act"), edit("spell_out_hardswish", "a")),
    }
    refused = [rejected("a.act", "hardswish")]
    (first,) = picks(refused, made, (), lambda rule: (False, 0))
    assert (first.place, first.before) == (("spell_out_hardswish", "a.act"), {"hardswish_to_relu"})
    (second,) = picks(
        refused, made, {("spell_out_hardswish", "a.act"), ("spell_out_hardswish", "a")}, lambda r: (False, 0)
    )
    assert second.place == ("hardswish_to_relu", "a.act")
    (third,) = picks(refused, made, (), lambda rule: (rule.name == "spell_out_hardswish", 0))
    assert third.place == ("hardswish_to_relu", "a.act")
    assert picks(refused, {}, (), lambda rule: (False, 0)) == ()


def test_the_onnx_name_of_all_that_rules_emit_is_known() -> None:
    emitted = set().union(*(rule.emits for rule in RULES.values()))
    assert emitted <= set(WRITTEN)
    assert len(emitted) >= 20


def test_a_target_is_asked_by_operator_and_by_device() -> None:
    device = target("Conv", "Mul", "HardSigmoid", devices={"one": {}, "two": {"not_accelerated": ["HardSigmoid"]}})
    rule = RULES["spell_out_hardswish"]
    assert unlisted(rule, device, "t", "one") == ()
    assert unlisted(rule, device, "t", "") == unlisted(rule, device, "t", "two") == ("HardSigmoid",)
    assert not hopeless(rule, device, "t", "two")
    assert hopeless(RULES["silu_to_relu"], device, "t", "one")
    assert not hopeless(RULES["fold_channel_scale"], device, "t", "one")


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("mobilenet_v2_light", UnknownName, "no recipe of that name, and no library/model; did you mean"),
        ("torchvisoin/resnet18", UnknownName, "unknown source library 'torchvisoin'; did you mean 'torchvision'"),
        ("torchvision/resnet81", UnknownName, "torchvision has no model 'resnet81'; did you mean"),
        ("torchvision/resnet18", UnknownName, "add --target"),
    ],
)
def test_a_dry_run_says_what_it_does_not_know(model: str, error: type[Exception], message: str) -> None:
    named = None if message == "add --target" else "generic_int8"
    with pytest.raises((error, MissingLibrary), match=message):
        dry_run.explain(model, named, root=ROOT)


@pytest.mark.slow
def test_a_dry_run_of_a_library_s_model() -> None:
    found = dry_run.explain("torchvision/squeezenet1_1", "tidl-9.1", "AM62A", root=ROOT, size=64)
    assert (found.target, found.device, found.clean) == ("tidl-9.1", "AM62A", True)
    assert found.as_text().startswith("surgery for tidl-9.1 AM62A: ")


def test_what_is_refused_carries_the_recipes_reason_by_operator_or_layer() -> None:
    model, node = Inner(), Node("n", "Sigmoid", (), (Value("y"),), module="block.1", torch_op="sigmoid")
    graph = Graph((node,), (), (), {"": 18}, 8)
    for entry, why in (("Sigmoid", "few"), ("block.*", "few"), ("Softmax", "")):
        (found,) = of_model(report("n", "Sigmoid", "block.1"), graph, model, model, {entry: "few"}).rejected
        assert found.left == why
        assert bool(considered([found])) == (not why)
