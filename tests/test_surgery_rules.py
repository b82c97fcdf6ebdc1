"""Every rule proves its promise on its own examples; the registry is the folder."""

from copy import deepcopy

import pytest
import torch
from torch import nn

import surgery
from surgery.operating.verify import difference
from surgery.rule import Example, Rule

CASES = [(rule, example) for rule in surgery.rules().values() for example in rule.examples()]


def ids(value: object) -> str | None:
    return value.name if isinstance(value, Rule) else None


def test_every_rule_has_examples_of_both_kinds() -> None:
    assert len(surgery.rules()) >= 10
    for name, rule in surgery.rules().items():
        assert {example.edits > 0 for example in rule.examples()} == {True, False}, name
        assert rule.__doc__, name
    assert len(CASES) >= 38


@pytest.mark.parametrize(("rule", "example"), CASES, ids=ids)
def test_rule_keeps_its_promise(rule: Rule, example: Example) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(example.build()).double().eval()
    x = 5 * torch.randn(example.shape, dtype=torch.float64)  # beyond ReLU6's bound
    if not example.edits:
        with pytest.raises(surgery.SurgeryError, match="changed nothing"):
            surgery.lite(model, [rule.name], example_inputs=(x,))
        return
    before = deepcopy(model)
    result, report = surgery.lite(model, [rule.name], example_inputs=(x,))
    assert sum(max(e.params.get("rewrites", {"": 1}).values()) for e in report.edits) == example.edits
    assert not report.refusals
    expected, found = model(x.clone()), result(x.clone())
    assert found.shape == expected.shape
    if rule.promise == "same_output":
        assert difference(expected, found) <= 1e-12
    else:
        assert not torch.equal(expected, found), "a same_shape example that changes nothing shows nothing"
    again = surgery.replay(before, report.plan)
    again.load_state_dict(result.state_dict())
    assert torch.equal(again.eval()(x.clone()), found)
    assert repr(model) == repr(before)


@pytest.mark.parametrize(("rule", "example"), [c for c in CASES if c[1].edits], ids=ids)
def test_result_trains(rule: Rule, example: Example) -> None:
    model = nn.Sequential(nn.Conv2d(example.shape[1], example.shape[1], 1), example.build())
    result, _ = surgery.lite(model, [rule.name], example_inputs=(torch.randn(example.shape),))
    result.train()(torch.randn(example.shape)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in result.parameters())


def test_two_rules_of_one_name_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    from surgery.registry import rules
    from surgery.rules import cleanup

    class Twin(Rule):
        name = "remove_identity"

    Twin.__module__ = cleanup.__name__
    monkeypatch.setattr(cleanup, "Twin", Twin, raising=False)
    rules.cache_clear()
    try:
        with pytest.raises(TypeError, match="two rules are named 'remove_identity'"):
            rules()
    finally:
        monkeypatch.undo()
        rules.cache_clear()
