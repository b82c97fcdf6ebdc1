"""Rules restricted to sites: they act there and nowhere else, and the plan repeats it."""

from collections.abc import Collection

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery.engine import proposals

X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act, self.conv = nn.SiLU(), nn.Conv2d(4, 4, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x)) + F.silu(x)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(Block(), Block(), nn.Conv2d(4, 2, 1)).eval()


def done(report: surgery.Report) -> set[tuple[str, str]]:
    return {(edit.rule, edit.site) for edit in report.edits}


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (["0.act"], {"0.act"}),
        (["1"], {"1"}),
        (["0", "1.act"], {"0", "1.act"}),
        (frozenset({"1.act", "0.act"}), {"0.act", "1.act"}),
    ],
)
def test_a_rule_acts_at_its_sites_and_not_inside_of_them(places: Collection[str], expected: set[str]) -> None:
    model = network()
    lite, report = surgery.lite(model, ["silu_to_relu"], X, sites={"silu_to_relu": places})
    assert done(report) == {("silu_to_relu", site) for site in expected}
    again = surgery.replay(model, report.plan)
    again.load_state_dict(lite.state_dict())
    assert torch.equal(again.eval()(X), lite.eval()(X))


def test_rules_without_sites_are_free() -> None:
    _, report = surgery.lite(network(), example_inputs=X, sites={"silu_to_relu": ["0.act"]})
    found = done(report)
    assert {site for rule, site in found if rule == "silu_to_relu"} == {"0.act"}
    assert {site for rule, site in found if rule == "split_large_kernel"} == {"0.conv", "1.conv"}


def test_a_site_that_is_not_there_is_a_rule_that_changes_nothing() -> None:
    rules = ["split_large_kernel", "even_kernel_to_odd"]
    model = nn.Sequential(nn.Conv2d(4, 4, 6, padding=2), nn.Conv2d(4, 4, 2))
    with pytest.raises(surgery.SurgeryError, match="even_kernel_to_odd"):
        surgery.lite(model, rules, X, sites={"even_kernel_to_odd": ["2"]})
    _, report = surgery.lite(model, rules, X, sites={"even_kernel_to_odd": ["1"]})
    assert done(report) == {("split_large_kernel", "0"), ("even_kernel_to_odd", "1")}


def test_no_site_at_all_is_a_rule_that_changes_nothing() -> None:
    with pytest.raises(surgery.SurgeryError, match="changed nothing"):
        surgery.lite(network(), ["silu_to_relu"], X, sites={"silu_to_relu": []})


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        ({"gelu_to_relu": ["0"]}, "'gelu_to_relu', which is not applied"),
        ({"silu_to_relu": "0.act"}, "a list of module names, not '0.act'"),
        ({"silu_to_relu": [0]}, "a list of module names"),
        (["0.act"], "by rule, not a list"),
    ],
)
def test_sites_that_mean_nothing_are_refused(sites: object, message: str) -> None:
    with pytest.raises(surgery.SurgeryError, match=message):
        surgery.lite(network(), ["silu_to_relu"], X, sites=sites)  # type: ignore[arg-type]


def test_proposals_change_nothing_and_say_what_each_rule_would_do() -> None:
    model = network()
    text = repr(model)
    found = proposals(model, ["silu_to_relu", "split_large_kernel", "gelu_to_relu"], X)
    assert repr(model) == text
    assert {each.site for each in found["silu_to_relu"]} == {"0", "0.act", "1", "1.act"}
    assert {each.site for each in found["split_large_kernel"]} == {"0.conv", "1.conv"}
    assert found["gelu_to_relu"] == ()
