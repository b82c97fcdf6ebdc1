"""Surgery by a replacement dictionary: five kinds of entry, their order, what is reported and what is refused."""

import io
import operator
import pickle
import sys
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from calling import Calls, X
from torch import Tensor, fx, nn
from torch.nn import functional as F

import surgery
from surgery import Pattern, any_module, dictionary_rules, get_replacement_dict_default, replace_unsupported_layers
from surgery.operating.verify import difference
from surgery.rule import Stage


class ConvNormAct(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block, self.line = ConvNormAct(), Calls(F.silu)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:
            return x
        return self.line(self.block(x))


class Mine(nn.Module):
    """A layer with the settings of the one that it replaces."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, padding: int = 0, bias: bool = True):
        super().__init__()
        self.settings = in_channels, out_channels, kernel_size, padding, bias
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight


def kinds(model: nn.Module) -> list[str]:
    return [type(module).__name__ for module in model.modules() if not list(module.children())]


# Kind 1: module instance -> module instance


def test_single_instances_are_copied_for_each_site_whatever_their_settings() -> None:
    model = nn.Sequential(nn.LeakyReLU(0.3), nn.Conv2d(4, 4, 1), nn.LeakyReLU(0.1))
    new = nn.PReLU(4)
    lite = replace_unsupported_layers(model, {nn.LeakyReLU(): new}, X)
    assert kinds(lite) == ["PReLU", "Conv2d", "PReLU"]
    first, _, second = lite.children()
    assert first is not second
    assert first is not new
    assert first.weight.data_ptr() != second.weight.data_ptr()


def test_composite_in_a_sequential_and_in_a_forward_of_its_own() -> None:
    key = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.SiLU())
    model = nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU()), ConvNormAct())
    lite = replace_unsupported_layers(model, {key: nn.AvgPool2d(3, 1, 1)}, X)
    assert kinds(lite) == ["AvgPool2d", "Identity", "Identity"] * 2 or kinds(lite) == ["AvgPool2d"] * 2
    assert torch.allclose(lite(X), F.avg_pool2d(F.avg_pool2d(X, 3, 1, 1), 3, 1, 1))
    assert not list(lite.parameters())
    assert lite.surgery_report.unmatched == ()


def test_composite_with_a_call_in_it_rewrites_the_forward_and_drops_what_is_spent() -> None:
    class Functional(ConvNormAct):
        def forward(self, x: Tensor) -> Tensor:
            return F.silu(self.norm(self.conv(x))) + x

    key = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.SiLU())
    lite = replace_unsupported_layers(nn.Sequential(Functional()), {key: nn.AvgPool2d(3, 1, 1)}, X)
    assert torch.allclose(lite(X), F.avg_pool2d(X, 3, 1, 1) + X)
    assert not list(lite.parameters())
    with pytest.warns(UserWarning, match="0: may hold .* tracing was switched off"):
        replace_unsupported_layers(nn.Sequential(Functional()), {key: nn.AvgPool2d(3, 1, 1)}, X, trace=False)


def test_composite_across_modules_of_a_traced_model() -> None:
    key = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.SiLU())
    model = nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), nn.SiLU())
    entries = {key: nn.AvgPool2d(3, 1, 1)}
    lite = replace_unsupported_layers(fx.symbolic_trace(model), entries, X)
    assert torch.allclose(lite(X), F.avg_pool2d(X, 3, 1, 1))


def test_composite_matches_its_own_class_as_a_whole() -> None:
    lite = replace_unsupported_layers(nn.Sequential(ConvNormAct()), {ConvNormAct(): nn.Tanh()}, X, trace=False)
    assert kinds(lite) == ["Tanh"]


# Kinds 2 and 3: function -> function, function -> module


@pytest.mark.parametrize("key", [torch.add, operator.add, Tensor.add])
@pytest.mark.parametrize("code", [lambda x: x + 2, lambda x: x.add(2), lambda x: torch.add(x, 2)])
def test_function_to_function_in_all_spellings(key: Any, code: Callable[[Any], Any]) -> None:
    lite = replace_unsupported_layers(nn.Sequential(Calls(code)), {key: torch.sub}, X)
    assert torch.equal(lite(X), X - 2)
    assert isinstance(lite, fx.GraphModule)


def test_arguments_are_carried_over_and_never_inplace() -> None:
    calls = Calls(lambda x: F.silu(x + 0, inplace=True) + x.mean((2, 3), keepdim=True))
    lite = replace_unsupported_layers(nn.Sequential(calls), {F.silu: torch.tanh, torch.mean: torch.amax}, X)
    assert torch.equal(lite(X), torch.tanh(X) + X.amax((2, 3), keepdim=True))


def test_function_to_module_is_a_fresh_instance_for_each_site() -> None:
    code = lambda x: F.silu(F.silu(x) * 2)  # noqa: E731
    lite = replace_unsupported_layers(nn.Sequential(Calls(code)), {F.silu: nn.PReLU}, X)
    assert kinds(lite) == ["PReLU", "PReLU"]
    assert len(list(lite.parameters())) == 2
    assert torch.equal(lite(X), F.prelu(F.prelu(X, torch.tensor(0.25)) * 2, torch.tensor(0.25)))


def test_a_type_takes_the_settings_of_the_call() -> None:
    lite = replace_unsupported_layers(
        nn.Sequential(Calls(lambda x: F.max_pool2d(x, 3, stride=1, padding=1))), {F.max_pool2d: nn.AvgPool2d}, X
    )
    assert torch.equal(lite(X), F.avg_pool2d(X, 3, 1, 1))


# Kind 4: module type or dotted name -> type, instance or factory


@pytest.mark.parametrize("key", [nn.Conv2d, "torch.nn.modules.conv.Conv2d", "torch.nn.Conv2d", any_module(nn.Conv2d)])
def test_type_and_dotted_name_to_a_type_with_the_same_settings(key: Any) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False)).double()
    model[0].requires_grad_(False)
    lite = replace_unsupported_layers(model, {key: Mine}, X.double(), trace=False)
    assert lite[0].settings == (4, 4, (3, 3), (1, 1), False)
    assert lite[0].weight.dtype == torch.float64
    assert not lite[0].weight.requires_grad


def test_dotted_names_lead_to_what_is_imported() -> None:
    from torchvision.ops import SqueezeExcitation

    model = nn.Sequential(SqueezeExcitation(4, 2))
    for name in ("torchvision.ops.SqueezeExcitation", "torchvision.ops.misc.SqueezeExcitation"):
        assert kinds(replace_unsupported_layers(model, {name: nn.Identity()}, X, trace=False)) == ["Identity"]
    for name in ("torchvision.ops.Nothing", "not_imported.SqueezeExcitation", "torch.nn.functional.silu"):
        with pytest.warns(UserWarning, match="matches nothing"):
            replace_unsupported_layers(model, {name: nn.Identity()}, X, trace=False)
    assert "not_imported" not in sys.modules


def test_factories_are_called_with_the_module() -> None:
    def widened(old: nn.Module) -> nn.Module:
        assert isinstance(old, nn.Conv2d)
        return nn.Sequential(old, nn.BatchNorm2d(old.out_channels))  # holds what it replaces: done once

    model = nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 1))
    lite = replace_unsupported_layers(model, {nn.Conv2d: widened}, X, trace=False)
    assert kinds(lite) == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d"]
    assert torch.equal(lite[0][0].weight, model[0].weight)
    assert lite[0][0].weight is not model[0].weight


def test_what_cannot_be_built_or_is_left_by_its_factory_is_refused() -> None:
    model = nn.Sequential(nn.Tanh(), nn.Conv2d(4, 4, 1))
    with pytest.warns(UserWarning, match="num_features, which Tanh does not say"):
        lite = replace_unsupported_layers(model, {nn.Tanh: nn.BatchNorm2d}, X)
    with pytest.warns(UserWarning, match="its factory gives it back as it was"):
        lite = replace_unsupported_layers(model, {nn.Conv2d: lambda old: old}, X)
    assert [(r.site, r.reason) for r in lite.surgery_report.refusals] == [("1", "its factory gives it back as it was")]


# Kind 5: any other key -> function(model) -> model


def widen_first(model: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Upsample(scale_factor=2), model, nn.MaxPool2d(2))


def test_custom_functions_run_on_a_copy_and_are_replayed_with_the_dictionary_alone() -> None:
    def act_away(model: nn.Module) -> nn.Module:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        model[1] = nn.ReLU()
        return model

    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.SiLU())
    before = deepcopy(model.state_dict())
    entries = {"act away": act_away, "wrap": widen_first}
    lite = replace_unsupported_layers(model, entries, X, trace=False)
    assert torch.equal(lite(X), torch.zeros_like(X))
    assert [type(layer) for layer in lite] == [nn.Upsample, nn.Sequential, nn.MaxPool2d]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    plan = surgery.Plan.from_json(lite.surgery_report.plan.to_json())
    assert [(e.rule, e.site) for e in plan.edits] == [
        ("dict: act away -> act_away", ""),
        ("dict: wrap -> widen_first", ""),
    ]
    with pytest.raises(surgery.PlanMismatch, match="needs rule 'dict: act away -> act_away'"):
        surgery.replay(model, plan)
    again = surgery.replay(model, plan, rules=dictionary_rules(entries))
    assert surgery.fingerprint(again) == plan.after


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda model: None, "gives a NoneType, not a model"),
        (lambda model: 1 / 0, "ZeroDivisionError"),
        (lambda model: nn.Flatten(), "would become"),
        (lambda model: model, "matches nothing"),
    ],
)
def test_custom_functions_that_fail_are_refused(function: Callable[[nn.Module], Any], reason: str) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1))
    with pytest.warns(UserWarning, match=reason):
        lite = replace_unsupported_layers(model, {"mine": function}, X)
    assert torch.equal(lite(X), model(X))


# The dictionary as a whole


def test_plans_of_entries_are_replayed_with_the_same_dictionary() -> None:
    key = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.SiLU())
    entries = {
        key: nn.Conv2d(4, 4, 3, padding=1),
        Pattern(lambda x: x * torch.tanh(x)): nn.PReLU(),
        F.silu: nn.PReLU,
        nn.Tanh: nn.ReLU,
    }
    model = nn.Sequential(ConvNormAct(), Calls(lambda x: x * x.tanh() + F.silu(x)), nn.Tanh())
    lite, report = surgery.lite(model, dictionary_rules(entries), X)
    assert len(report.edits) == 4
    again = surgery.replay(model, surgery.Plan.from_json(report.plan.to_json()), dictionary_rules(entries))
    again.load_state_dict(lite.state_dict())
    assert torch.equal(again.eval()(X), lite.eval()(X))


def test_entries_apply_in_order() -> None:
    model = nn.Sequential(nn.Tanh(), nn.ReLU())
    one_way = {nn.Tanh: nn.ReLU, nn.ReLU: nn.ELU}
    assert kinds(replace_unsupported_layers(model, one_way, X, trace=False)) == ["ELU", "ELU"]
    other_way = {nn.ReLU: nn.ELU, nn.Tanh: nn.ReLU}
    assert kinds(replace_unsupported_layers(model, other_way, X, trace=False)) == ["ReLU", "ELU"]


def entries_of_cleanup(names: list[str]) -> list[str]:
    known = surgery.rules()
    return [name for name in names if name in known and known[name].stage is Stage.CLEANUP]


def test_larger_patterns_go_before_what_they_contain() -> None:
    whole = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.SiLU())
    entries = {nn.SiLU: nn.ReLU, whole[:2]: nn.Conv2d(4, 4, 1), whole: nn.Identity()}
    assert [rule.name for rule in dictionary_rules(entries)] == [
        "dict: Conv2d+BatchNorm2d+SiLU -> Identity",
        "dict: SiLU -> ReLU",
        "dict: Conv2d+BatchNorm2d -> Conv2d",
    ]
    defaults = get_replacement_dict_default()
    defaults[whole] = nn.Identity()
    names = [rule.name for rule in dictionary_rules(defaults)]
    assert names.index("dict: Conv2d+BatchNorm2d+SiLU -> Identity") < names.index("silu_to_relu")
    assert entries_of_cleanup(names) == names[-len(entries_of_cleanup(names)) :]


def test_users_change_the_default_dictionary() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.SiLU(), Calls(F.silu), nn.Hardswish())
    lite = replace_unsupported_layers(model, None, X, trace=False)
    assert kinds(lite) == ["Conv2d", "ReLU", "Calls", "ReLU"]
    without = get_replacement_dict_default()
    del without[nn.SiLU]
    lite = replace_unsupported_layers(model, without, X)
    assert lite.surgery_report.by_rule() == {"hardswish_to_relu": 1}
    assert "silu" in {o.name for o in surgery.operators(lite, (X,))}
    changed = get_replacement_dict_default()
    changed[nn.SiLU] = nn.LeakyReLU
    assert kinds(replace_unsupported_layers(model, changed, X, trace=False)) == ["Conv2d", "LeakyReLU", "Calls", "ReLU"]
    assert nn.SiLU in get_replacement_dict_default(), "each time a new one"
    assert not replace_unsupported_layers(model, {}, X).surgery_report.is_lite


def test_every_default_rule_has_its_entry_and_none_matters_where_nothing_matches() -> None:
    entries = get_replacement_dict_default()
    assert sorted(rule.name for rule in entries.values()) == sorted(
        r.name for r in surgery.rules().values() if r.default
    )
    lite = replace_unsupported_layers(nn.Sequential(nn.Conv2d(4, 4, 1)), None, X)
    assert set(lite.surgery_report.unmatched) == {rule.name for rule in entries.values()}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({nn.SiLU: 3}, "'dict: SiLU -> 3' needs a module, a module type or a factory"),
        ({nn.SiLU(): "relu"}, "'dict: SiLU -> relu' needs a module or a module type"),
        ({nn.SiLU(): F.relu}, "'dict: SiLU -> relu' needs a module or a module type"),
        ({F.silu: None}, "'dict: silu -> None' needs a function, a module or a module type"),
        ({F.silu: dict}, "'dict: silu -> dict' needs a function"),
        ({dict: nn.ReLU}, "'dict: dict -> ReLU' needs a module type as its key"),
        ({"gate": nn.ReLU()}, "'dict: gate -> ReLU' needs a function of the model"),
        ({7: 7}, "'dict: 7 -> 7' needs a function of the model"),
        ({any_module(nn.SiLU): 7}, r"'dict: any_module\(SiLU\) -> 7' needs a module, a module type or a factory"),
        ([(nn.SiLU, nn.ReLU)], "replacement_dict maps what is replaced to what replaces it; it is a list"),
        ("silu", "it is a str"),
    ],
)
def test_wrong_kinds_are_type_errors_naming_the_entry(entries: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        replace_unsupported_layers(nn.Sequential(nn.SiLU()), entries, X)


def test_a_wrong_shape_is_refused_at_its_site_alone() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, stride=2))
    lite = replace_unsupported_layers(model, {nn.Conv2d(1, 1, 1): nn.AvgPool2d(2)}, X)
    assert kinds(lite) == ["Conv2d", "AvgPool2d"]
    (refusal,) = lite.surgery_report.refusals
    assert (refusal.rule, refusal.site) == ("dict: Conv2d -> AvgPool2d", "0")
    assert "(2, 4, 4, 4)] instead of [(2, 4, 8, 8)]" in refusal.reason


def test_an_entry_that_matches_nothing_is_a_warning_and_reported() -> None:
    with pytest.warns(UserWarning, match="dict: silu -> relu: it matches nothing"):
        lite = replace_unsupported_layers(nn.Sequential(nn.Tanh()), {F.silu: F.relu}, X)
    assert lite.surgery_report.unmatched == ("dict: silu -> relu",)


# What comes back


def test_a_model_that_cannot_be_traced_as_a_whole_keeps_its_class() -> None:
    model = Untraceable().eval()
    lite = replace_unsupported_layers(model, None, X)
    assert type(lite) is Untraceable
    assert "symbolically traced variables" in lite.surgery_report.not_traced
    assert "silu" not in {o.name for o in surgery.operators(lite, (X,))}
    assert lite.state_dict().keys() == model.state_dict().keys()


class Mode(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(2, 2)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(F.dropout(x, 0.5, self.training))


def test_a_graph_keeps_modes_and_keys() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), Mode(), nn.BatchNorm2d(4)).eval()
    model[2].train()
    model.register_buffer("passing", torch.ones(4, 1, 1), persistent=False)
    lite = replace_unsupported_layers(model, None, X)
    assert isinstance(lite, fx.GraphModule)
    assert lite.state_dict().keys() == model.state_dict().keys()
    assert {name: m.training for name, m in lite.named_modules()}["2"] is True
    lite.load_state_dict(model.state_dict())
    assert torch.equal(lite.eval()(X), lite(X))
    assert not torch.equal(lite.train()(X), lite(X)), "dropout in train mode"
    assert "differs between train and eval" in replace_unsupported_layers(Mode(), None, X).surgery_report.not_traced


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unused, self.act = nn.Linear(2, 2), nn.SiLU()
        self.register_buffer("passing", torch.ones(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(F.leaky_relu(x)) * self.passing


def loaded(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("again", [deepcopy, lambda m: pickle.loads(pickle.dumps(m)), loaded])
def test_a_graph_is_whole_after_a_copy_and_a_load(again: Callable[[nn.Module], nn.Module]) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), Parts(), nn.BatchNorm2d(4)).eval()
    model[0].train()
    lite = replace_unsupported_layers(model, None, X)
    for copy in (again(lite), again(again(lite)), deepcopy(again(lite))):
        assert isinstance(copy, fx.GraphModule)
        assert copy.surgery_report == lite.surgery_report
        assert copy.state_dict().keys() == lite.state_dict().keys()
        assert {name: m.training for name, m in copy.named_modules()} == {
            name: m.training for name, m in lite.named_modules()
        }
        assert not {id(p) for p in copy.parameters()} & {id(p) for p in lite.parameters()}
        assert torch.equal(copy(X), lite(X))
        copy(X).sum().backward()
        assert copy.get_submodule("0").weight.grad is not None
        assert lite.get_submodule("0").weight.grad is None


def test_a_surgery_module_can_be_pickled() -> None:
    model = surgery.SurgeryModule(nn.Sequential(nn.Conv2d(4, 4, 1), nn.SiLU()), None, X)
    copy = pickle.loads(pickle.dumps(model))
    assert torch.equal(copy(X), model(X))
    assert copy.get_replacement_dict() == get_replacement_dict_default()


def test_the_report_as_json_says_what_was_not_found() -> None:
    with pytest.warns(UserWarning, match="matches nothing"):
        lite = replace_unsupported_layers(nn.Sequential(nn.Tanh()), {F.silu: F.relu}, X, trace=False)
    found = lite.surgery_report.to_json()
    assert found["unmatched"] == ["dict: silu -> relu"]
    assert found["not_traced"] == "tracing was switched off"
    assert found["edits"] == []


def test_optional_arguments_make_no_graph() -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            return F.silu(x if mask is None else x * mask)

    lite = replace_unsupported_layers(Masked(), None, X)
    assert "optional arguments (mask)" in lite.surgery_report.not_traced
    assert torch.equal(lite(X), F.relu(X))


def test_mobilenet_as_a_graph_equals_scoped_surgery() -> None:
    from torchvision.models import mobilenet_v3_small

    torch.manual_seed(0)
    model, image = mobilenet_v3_small().eval(), torch.randn(1, 3, 32, 32)
    graph = replace_unsupported_layers(model, None, image)
    scoped, _ = surgery.lite(model, example_inputs=image)
    assert isinstance(graph, fx.GraphModule)
    assert graph.state_dict().keys() == scoped.state_dict().keys()
    assert difference(scoped(image), graph(image)) < 1e-6
    assert graph(torch.cat([image, image])).shape == (2, 1000)
    modules = replace_unsupported_layers(model, None, image, trace=False)
    assert type(modules) is type(model)
    assert not {"hardswish", "hardswish_"} & {o.name for o in surgery.operators(modules, (image,))}


def test_surgery_module_delegates_and_tells_its_dictionary() -> None:
    entries = {nn.SiLU: nn.ReLU}
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.SiLU())
    wrapped = surgery.SurgeryModule(model, entries, X)
    assert wrapped.get_replacement_dict() == entries
    assert torch.equal(wrapped(X), F.relu(model[0](X)))
    assert torch.equal(deepcopy(wrapped)(X), wrapped.module(X))
    assert surgery.SurgeryModule(model).get_replacement_dict().keys() == get_replacement_dict_default().keys()
    lite = surgery.convert_to_lite_fx(model, entries, example_inputs=X)
    assert torch.equal(lite(X), wrapped(X))
