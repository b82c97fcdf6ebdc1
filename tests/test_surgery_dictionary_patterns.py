"""Composite and pattern entries of a dictionary: matches that meet, sites that are counted once, nested Sequentials."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import surgery
from surgery import Pattern, dictionary_rules, get_replacement_dict_default, replace_unsupported_layers
from surgery.patterns.snippet import any_module

X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def conv() -> nn.Module:
    return nn.Conv2d(4, 4, 1)


def conv_act() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 1, 1), nn.SiLU())


def conv_norm_act() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.SiLU())


def nested_key() -> nn.Module:
    return nn.Sequential(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)), nn.SiLU())


def kinds(model: nn.Module) -> list[str]:
    return [type(module).__name__ for module in model.modules() if not list(module.children())]


def replayed(model: nn.Module, entries: dict[Any, Any], example: Tensor | None = X) -> surgery.Report:
    """The report of ``lite`` with the dictionary, once its plan has given the same model again."""
    lite, report = surgery.lite(model, dictionary_rules(entries), example)
    again = surgery.replay(model, surgery.Plan.from_json(report.plan.to_json()), dictionary_rules(entries))
    again.load_state_dict(lite.state_dict())
    assert torch.equal(again.eval()(X), lite.eval()(X))
    return report


# One match feeds the next


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(), conv()

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.b(F.silu(self.a(x))))


class Shared(Two):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.b(self.act(self.a(x))))


class Loop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([conv(), conv()])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = F.silu(layer(x))
        return x


def shared_in_a_sequential() -> nn.Module:
    act = nn.SiLU()
    return nn.Sequential(conv(), act, conv(), act)


@pytest.mark.parametrize(
    "build",
    [
        *(Two, Shared, Loop, shared_in_a_sequential),
        *(lambda: fx.symbolic_trace(Two()), lambda: nn.Sequential(fx.symbolic_trace(Shared()))),
    ],
)
def test_matches_that_feed_each_other(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    entries = {conv_act(): nn.Tanh()}
    lite = replace_unsupported_layers(build(), entries, X)
    assert torch.equal(lite(X), X.tanh().tanh())
    assert not list(lite.parameters())
    assert sum(edit.params["rewrites"]["eval"] for edit in replayed(build(), entries).edits) == 2


def test_a_formula_of_its_own_value() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * torch.sigmoid(x)
            return y * torch.sigmoid(y)

    lite = replace_unsupported_layers(nn.Sequential(Twice()), {Pattern(lambda x: x * torch.sigmoid(x)): nn.Tanh()}, X)
    assert torch.equal(lite(X), X.tanh().tanh())


def test_what_an_entry_makes_is_not_matched_again() -> None:
    class Three(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(torch.relu(torch.relu(x + 1)))

    twice = Pattern(lambda x: torch.relu(torch.relu(x)))
    lite = replace_unsupported_layers(nn.Sequential(Three()), {twice: torch.relu}, X)
    assert lite.surgery_report.edits[0].params["rewrites"] == {"train": 1, "eval": 1}
    assert torch.equal(lite(X), torch.relu(X + 1))


# Each layer once


class Subclass(nn.SiLU):
    pass


@pytest.mark.parametrize("key", [lambda: nn.Sequential(nn.SiLU()), lambda: Pattern(nn.SiLU())])
@pytest.mark.parametrize("layer", [nn.SiLU, Subclass])
@pytest.mark.parametrize("example", [X, None])
def test_a_pattern_of_one_layer_makes_one_edit(
    key: Callable[[], Any], layer: type[nn.Module], example: Tensor | None
) -> None:
    model = nn.Sequential(conv(), layer())
    report = replayed(model, {key(): nn.ReLU()}, example)
    assert [edit.site for edit in report.edits] == [""]
    assert report.refusals == ()
    assert kinds(replace_unsupported_layers(model, {key(): nn.ReLU()}, example, trace=False)) == ["Conv2d", "ReLU"]


def test_a_pattern_of_one_layer_stands_for_its_calls_too() -> None:
    report = replayed(nn.Sequential(Two()), {nn.Sequential(nn.SiLU()): nn.ReLU()})
    assert [(edit.site, edit.params["rewrites"]["eval"]) for edit in report.edits] == [("0", 2)]


@pytest.mark.parametrize("trace", [True, False])
def test_instances_of_a_composite_are_replaced_rather_than_rewritten(trace: bool) -> None:
    from torchvision.ops import SqueezeExcitation

    model = nn.Sequential(conv(), SqueezeExcitation(4, 2))
    entries = {SqueezeExcitation(1, 1): nn.Identity()}
    lite = replace_unsupported_layers(model, entries, X, trace=trace)
    assert [(e.site, e.action) for e in lite.surgery_report.edits] == [("1", "SqueezeExcitation -> Identity")]
    assert torch.equal(lite(X), model[0](X))
    assert len(replayed(model, entries).edits) == 1


# Nested Sequentials


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.act = nn.Sequential(conv(), nn.BatchNorm2d(4)), nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.body(x)) + x


@pytest.mark.parametrize("key", [conv_norm_act, nested_key])
@pytest.mark.parametrize(
    ("build", "site"),
    [
        (lambda: nn.Sequential(conv(), nn.BatchNorm2d(4), nn.SiLU()), ""),
        (lambda: nn.Sequential(nn.Sequential(conv(), nn.BatchNorm2d(4)), nn.SiLU()), ""),
        (lambda: nn.Sequential(nn.Sequential(nn.Sequential(conv()), nn.BatchNorm2d(4), nn.SiLU()), nn.ReLU()), "0"),
        (lambda: nn.Sequential(nn.Sequential(nn.Sequential(conv(), nn.BatchNorm2d(4), nn.SiLU()))), "0.0"),
    ],
)
def test_chains_across_sequentials_need_no_trace(
    key: Callable[[], nn.Module], build: Callable[[], nn.Module], site: str
) -> None:
    entries = {key(): nn.Tanh()}
    for example, trace in ((X, True), (X, False), (None, True), (None, False)):
        lite = replace_unsupported_layers(build(), entries, example, trace=trace)
        assert [edit.site for edit in lite.surgery_report.edits] == [site]
        assert kinds(lite)[:3] == ["Tanh", "Identity", "Identity"]
    assert len(replayed(build(), entries).edits) == 1


def test_chains_from_a_sequential_into_the_forward_that_calls_it() -> None:
    entries = {conv_norm_act(): nn.Tanh()}
    assert len(replayed(nn.Sequential(Body()), entries).edits) == 1
    assert torch.equal(replace_unsupported_layers(nn.Sequential(Body()), entries, X)(X), X.tanh() + X)
    with pytest.warns(UserWarning, match="0: may hold .* tracing was switched off"):
        replace_unsupported_layers(nn.Sequential(Body()), entries, X, trace=False)


def test_a_sequential_with_hooks_is_not_looked_through() -> None:
    model = nn.Sequential(nn.Sequential(conv(), nn.BatchNorm2d(4)), nn.SiLU())
    model[0].register_forward_hook(lambda module, args, output: output * 2)
    with pytest.warns(UserWarning, match="matches nothing"):
        replace_unsupported_layers(model, {conv_norm_act(): nn.Tanh()}, X, trace=False)


def test_a_check_is_asked_without_tracing_too() -> None:
    def asked(match: surgery.Match) -> bool | str:
        conv = match.calls[0].graph.owning_module.get_submodule(str(match.calls[0].target))
        return conv.out_channels == 4 or "too wide"

    entries = {Pattern(lambda x: any_module(nn.SiLU)(any_module(nn.Conv2d)(x)), check=asked): nn.Tanh()}
    model = nn.Sequential(conv(), nn.SiLU(), nn.Conv2d(4, 5, 1), nn.SiLU())
    lite = replace_unsupported_layers(model, entries, X, trace=False)
    assert kinds(lite) == ["Tanh", "Identity", "Conv2d", "SiLU"]
    assert [refusal.reason for refusal in lite.surgery_report.refusals] == ["too wide"]


# Whose entry goes first


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.conv(x))


@pytest.mark.parametrize(
    "key",
    [
        *(nn.SiLU(), "torch.nn.SiLU", "torch.nn.modules.activation.SiLU", any_module(nn.SiLU, nn.Tanh)),
        *(nn.Sequential(nn.SiLU()), Pattern(nn.SiLU())),
    ],
)
def test_an_entry_of_ones_own_wins_over_the_default_one_for_the_same_layer(key: Any) -> None:
    entries = {**get_replacement_dict_default(), key: nn.Softsign()}
    lite = replace_unsupported_layers(nn.Sequential(conv(), nn.SiLU(), conv()), entries, X)
    assert kinds(lite) == ["Conv2d", "Softsign", "Conv2d"]


@pytest.mark.parametrize("key", [F.silu, Pattern(F.silu), surgery.CallPattern("silu"), Block, Block()])
def test_entries_for_calls_and_for_own_classes_win_too(key: Any) -> None:
    lite = replace_unsupported_layers(nn.Sequential(Block()), {**get_replacement_dict_default(), key: nn.Softsign()}, X)
    assert "Softsign" in kinds(lite)
    assert lite.surgery_report.by_rule().get("silu_to_relu", 0) == 0


def test_an_entry_for_what_no_default_rule_is_for_keeps_its_place() -> None:
    model = nn.Sequential(conv(), nn.SiLU(), conv())
    lite = replace_unsupported_layers(model, {**get_replacement_dict_default(), nn.ReLU: nn.Softsign}, X)
    assert kinds(lite) == ["Conv2d", "Softsign", "Conv2d"]
