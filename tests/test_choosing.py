"""The loop of surgery by target: what it picks first, what it takes back, when it stops, what it says."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from choosing_cases import EVERYTHING, IMAGE, Refuses, chosen, linted_by, ordered_for, target
from torch import Tensor, nn

import surgery
from surgery.rule_parts.plain_convolution import Crop2d
from zoo.choosing import choose as loop
from zoo.choosing.choose import choose
from zoo.choosing.explanation import SHOWN, WIDTH
from zoo.choosing.linted import Linted
from zoo.errors import StepError

AROUND = ("before:", "after: ")


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool, self.fc, self.gate = nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.fc(self.pool(x)))


def refuse(*kinds: type[nn.Module], operator: str) -> Refuses:
    return lambda module: (operator, "not listed") if type(module) in kinds else None


def refuse_kernels(largest: int) -> Refuses:
    def said(module: nn.Module) -> tuple[str, str] | None:
        large = type(module) is nn.Conv2d and max(module.kernel_size) > largest
        return ("conv2d", f"kernel beyond {largest}") if large else None

    return said


def network(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 4, 1), *layers, nn.Conv2d(4, 2, 1)).eval()


def sites(found: Any) -> dict[str, tuple[str, ...]]:
    return dict(found.sites)


def test_what_is_accepted_is_left_alone() -> None:
    found, linted = chosen(network(nn.SiLU(), Gated()), lambda module: None)
    assert (found.clean, found.choices, found.rules, found.rounds, len(linted)) == (True, (), (), 0, 1)
    assert "no rule is applied" in found.as_text()


def test_an_exact_rule_comes_before_one_that_has_to_be_trained() -> None:
    found, linted = chosen(network(nn.Hardswish()), refuse(nn.Hardswish, operator="hardswish"))
    assert sites(found) == {"spell_out_hardswish": ("1",)}
    assert found.choices[0].promise == "same_output"
    assert "before hardswish_to_relu" in found.choices[0].why
    assert len(linted) == 2


def test_a_rule_whose_parts_the_target_lacks_is_not_tried() -> None:
    order = ordered_for(target("Conv", "Relu"))
    found, linted = chosen(network(nn.Hardswish()), refuse(nn.Hardswish, operator="hardswish"), order)
    assert sites(found) == {"hardswish_to_relu": ("1",)}
    assert len(linted) == 2
    nothing = ordered_for(target("Conv"))
    found, linted = chosen(network(nn.Hardswish()), refuse(nn.Hardswish, operator="hardswish"), nothing)
    assert not found.choices
    assert "the target lists nothing of what it leaves" in found.left[0].why
    assert len(linted) == 1


def test_rules_act_only_where_the_target_refuses() -> None:
    model = network(nn.Conv2d(4, 4, 5, padding=2), nn.Conv2d(4, 4, 5, padding=2, groups=4), nn.SiLU(), nn.SiLU())

    def said(module: nn.Module) -> tuple[str, str] | None:
        depthwise = type(module) is nn.Conv2d and module.groups > 1 and module.kernel_size == (5, 5)
        return ("conv2d", "depthwise 5x5") if depthwise else None

    found, _ = chosen(model, said)
    assert sites(found) == {"split_kernel_to_3x3": ("2",)}


def test_a_rule_that_does_not_help_is_taken_back_and_the_next_one_tried() -> None:
    found, linted = chosen(network(nn.Conv2d(4, 4, 7, padding=3)), refuse_kernels(3))
    assert sites(found) == {"split_kernel_to_3x3": ("1",)}
    tried = {(each.rule, each.site): each.why for each in found.dropped}
    assert ("large_kernel_series", "1") not in tried
    assert all("kernel beyond 3" in why for why in tried.values())
    assert found.rounds == 1 + len(tried)
    assert len(linted) == 1 + found.rounds


def test_what_no_rule_removes_is_left_with_the_reason() -> None:
    found, linted = chosen(network(nn.Softsign(), nn.SiLU()), refuse(nn.Softsign, operator="softsign"))
    assert not found.clean
    assert [each.why for each in found.left] == ["no rule removes softsign here"]
    assert (len(linted), found.rounds) == (1, 0)
    assert "1: Softsign: not listed; no rule removes softsign here" in found.as_text()


def test_what_the_recipe_leaves_stays_with_its_reason() -> None:
    judge = linted_by(refuse(nn.Hardswish, operator="hardswish"))

    def lint(model: nn.Module) -> Linted:
        found = judge(model)
        kept = tuple(replace(each, left="slow") if each.layer == "2" else each for each in found.rejected)
        return replace(found, rejected=kept)

    found = choose(network(nn.Hardswish(), nn.Hardswish()), lint, EVERYTHING, IMAGE, [IMAGE])
    assert sites(found) == {"spell_out_hardswish": ("1",)}
    assert [(each.finding.module, each.why) for each in found.left] == [("2", "the recipe leaves it: slow")]


def test_what_a_rule_refuses_is_left_with_its_reason() -> None:
    model = network(nn.Conv2d(4, 4, 7, padding=3), nn.Conv2d(4, 4, 7, padding=3))
    model[2].weight = model[1].weight
    found, _ = chosen(model, refuse_kernels(5))
    assert [each.finding.module for each in found.left] == ["1", "2"]
    assert all("its weight is tied to that of" in each.why for each in found.left)


def test_a_rule_that_tried_everything_is_left_with_what_the_target_said() -> None:
    found, linted = chosen(network(nn.Conv2d(4, 4, 7, padding=3)), refuse_kernels(0))
    rules = {"split_large_kernel", "split_kernel_to_3x3", "split_large_kernel_to_5x5", "large_kernel_series"}
    assert {each.rule for each in found.dropped} == rules
    assert not found.choices
    (left,) = [each for each in found.left if each.finding.module == "1"]
    assert all(f"{rule} was tried" in left.why for rule in rules)
    assert len(linted) == 1 + found.rounds <= 1 + loop.MAX_ROUNDS


def test_the_rounds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MAX_ROUNDS", 1)
    found, linted = chosen(network(nn.Conv2d(4, 4, 7, padding=3)), refuse_kernels(0))
    assert (found.rounds, len(linted)) == (1, 2)
    assert "stopped after 1 rounds" in found.stopped
    assert found.as_text().endswith(found.stopped)
    assert found.left


def test_a_gate_goes_with_all_that_made_it_and_its_constant_is_folded() -> None:
    found, _ = chosen(network(Gated(), nn.ReLU()), refuse(nn.Hardsigmoid, Gated, operator="mul"))
    assert sites(found) == {"squeeze_excite": ("1",)}
    assert "fold_channel_scale" in found.followed
    assert len(found.choices[0].removed) == 2


def test_a_rule_inside_of_what_another_removes_is_dropped_without_harm() -> None:
    def said(module: nn.Module) -> tuple[str, str] | None:
        names = {nn.Hardsigmoid: "hardsigmoid", Gated: "mul"}
        return (names[type(module)], "not listed") if type(module) in names else None

    found, _ = chosen(network(Gated(), nn.ReLU()), said)
    assert found.clean
    assert sites(found) == {"squeeze_excite": ("1",)}
    assert [(each.rule, each.why) for each in found.dropped] == [
        ("hardsigmoid_to_clamp", "another rule took its place")
    ]


def test_what_is_chosen_is_what_surgery_then_does_and_the_plan_repeats() -> None:
    model = network(nn.SiLU(), nn.Conv2d(4, 4, 7, padding=3), nn.SiLU(), Gated(), nn.ReLU())

    def said(module: nn.Module) -> tuple[str, str] | None:
        return refuse_kernels(5)(module) or refuse(nn.SiLU, Gated, operator="mul")(module)

    before = repr(model)
    found, _ = chosen(model, said)
    assert repr(model) == before
    batches = [IMAGE, 2 * IMAGE]
    lite, report = surgery.lite(model, found.rules, IMAGE, batches, found.sites)
    assert linted_by(said)(lite).clean
    assert {edit.rule for edit in report.edits} == set(found.rules)
    again = surgery.replay(model, report.plan)
    again.load_state_dict(lite.state_dict())
    assert torch.equal(again.eval()(IMAGE), lite.eval()(IMAGE))


def test_edits_that_break_the_model_together_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> object:
        raise surgery.SurgeryError("the edits do not hold together")

    monkeypatch.setattr(loop, "apply_rules", fails)
    found, linted = chosen(network(nn.SiLU()), refuse(nn.SiLU, operator="silu"))
    assert [(each.rule, each.why) for each in found.dropped] == [("silu_to_relu", "the edits do not hold together")]
    assert "silu_to_relu was tried: the edits do not hold together" in found.left[0].why
    assert len(linted) == 1


def test_one_edit_that_cannot_be_exported_does_not_take_the_others_with_it() -> None:
    judge = linted_by(refuse(nn.SiLU, operator="silu"))

    def lint(model: nn.Module) -> Linted:
        if type(model.get_submodule("2")) is not nn.SiLU:
            raise StepError("the second cannot be exported")
        return judge(model)

    found = choose(network(*(nn.SiLU() for _ in range(4))), lint, EVERYTHING, IMAGE, [IMAGE])
    assert sites(found) == {"silu_to_relu": ("1", "3", "4")}
    assert [(each.site, each.why) for each in found.dropped] == [("2", "the second cannot be exported")]
    assert [each.finding.node for each in found.left] == ["2"]


def test_the_text_counts_and_fits_its_lines() -> None:
    found, _ = chosen(network(nn.Hardswish()), refuse(nn.Hardswish, operator="hardswish"))
    lines = found.as_text().splitlines()
    assert lines[0] == "surgery for small: 1 rule at 1 site; nothing is left that the target refuses"
    assert lines[1:3] == [f"accelerated {when} 100.0 % of nodes, 100.0 % of MACs in 0 subgraphs" for when in AROUND]
    long = replace(found.choices[0], sites=tuple(f"a.layer.with.a.name.of.some.length.{at}" for at in range(9)))
    told = replace(found, choices=(long,)).as_text().splitlines()
    assert max(map(len, told)) <= WIDTH < len(", ".join(long.sites[:SHOWN]))
    assert any(line.startswith("    ") and line.endswith(" and 5 more") for line in told)


def test_a_source_that_fails_on_its_inputs_is_an_error() -> None:
    with pytest.raises(surgery.SurgeryError, match="fails on the example inputs"):
        choose(
            network(nn.SiLU()),
            linted_by(refuse(nn.SiLU, operator="silu")),
            EVERYTHING,
            torch.zeros(1, 3, 8, 8),
            [IMAGE],
        )


def test_an_even_kernel_is_split_into_tiles_that_need_no_slices_where_the_target_has_none() -> None:
    def said(module: nn.Module) -> tuple[str, str] | None:
        if type(module) is Crop2d:
            return "slice", "not listed"
        refused = type(module) is nn.Conv2d and max(module.kernel_size) > 5
        return ("conv2d", "beyond 5x5") if refused else None

    model = network(nn.Conv2d(4, 4, 6, stride=2, padding=2))
    found, _ = chosen(model, said)
    assert sites(found) == {"split_large_kernel_to_5x5": ("1",)}
    lite, report = surgery.lite(model, found.rules, IMAGE, [IMAGE], found.sites)
    assert report.same_output
    torch.testing.assert_close(lite.eval()(IMAGE), model(IMAGE))
