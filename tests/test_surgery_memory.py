"""Of a large model not all values that modules receive fit into memory: without them surgery does the same."""

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.observing import evidence
from surgery.observing.observe import device_of, is_same, observe, token
from surgery.observing.receiving import received_inside
from surgery.operating.example import Example
from surgery.rule import Rule

EVERYTHING = 2**60
CASES = [(rule, next(e for e in rule.examples() if e.edits)) for rule in surgery.rules().values()]


def block() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(nn.Conv2d(3, 3, 3), nn.SiLU()), nn.Hardswish())


def operated(build: "nn.Module", x: Tensor, rules: list[str]) -> tuple[nn.Module, surgery.Report]:
    return surgery.lite(build, rules, example_inputs=(x,))


@pytest.mark.parametrize(("rule", "example"), CASES, ids=lambda value: value.name if isinstance(value, Rule) else None)
def test_every_rule_does_the_same_without_room(
    rule: Rule, example: surgery.Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Sequential(example.build()), nn.Identity()).eval()
    x = torch.randn(example.shape)
    monkeypatch.setattr(evidence, "ROOM", EVERYTHING)
    torch.manual_seed(1)
    with_room, report = operated(model, x, [rule.name])
    monkeypatch.setattr(evidence, "ROOM", -1)
    torch.manual_seed(1)
    without, again = operated(model, x, [rule.name])
    assert again.plan == report.plan
    assert again.refusals == report.refusals
    kept, found = with_room.state_dict(), without.state_dict()
    assert kept.keys() == found.keys()
    for name, value in kept.items():
        assert torch.equal(value, found[name]), name
    assert torch.equal(with_room(x), without(x))


def test_cases_cover_every_rule() -> None:
    assert {rule.name for rule, _ in CASES} == surgery.rules().keys()


def test_without_room_only_what_holds_others_keeps_its_inputs() -> None:
    model = block().eval()
    seen = observe(model, (torch.randn(1, 3, 8, 8),), {}, room=0)
    assert {name for name, run in seen.runs.items() if run.has_inputs} == {"", "1"}
    assert {name for name, run in seen.runs.items() if run.has_output} == {""}
    assert sum(run.held for name, run in seen.runs.items() if name) == 3 * 8 * 8 * 4  # what "1" received
    light = seen.runs["1.0"].args[0]
    assert light.is_meta
    assert light.shape == (1, 3, 8, 8)
    assert device_of(light) == torch.device("cpu")
    assert is_same(light, seen.runs["1"].args[0])
    assert [call.module for call in seen.calls if token(light) in call.inputs] == ["1.0"]


def test_with_room_all_is_kept() -> None:
    seen = observe(block().eval(), (torch.randn(1, 3, 8, 8),), {})
    assert len(seen.runs) == 6
    assert all(run.has_inputs and run.has_output and run.is_intact() for run in seen.runs.values())


@pytest.mark.parametrize("once", [True, False])
def test_what_modules_inside_receive(once: bool) -> None:
    model = block()
    x = torch.randn(2, 3, 8, 8)
    given = received_inside(model, Example((x,)), {"silu": model[1][1], "conv": model[1][0]}, once)
    assert given.keys() == {"silu", "conv"}
    assert torch.equal(given["conv"].args[0], model[0](x))
    assert torch.equal(given["silu"].args[0], model[1][0](model[0](x)))
    assert model.training


def test_what_comes_after_the_last_of_them_does_not_run() -> None:
    model, ran = block(), []
    model[2].register_forward_hook(lambda *_: ran.append("hardswish"))
    received_inside(model, Example((torch.randn(1, 3, 8, 8),)), {"silu": model[1][1]}, once=True)
    assert not ran
    received_inside(model, Example((torch.randn(1, 3, 8, 8),)), {"silu": model[1][1]}, once=False)
    assert ran == ["hardswish"]


def test_a_shared_module_receives_what_it_did_last() -> None:
    relu = nn.ReLU()
    model = nn.Sequential(relu, nn.Conv2d(3, 3, 1), relu)
    x = torch.randn(1, 3, 4, 4)
    given = received_inside(model, Example((x,)), {"relu": relu}, once=False)
    assert torch.equal(given["relu"].args[0], model[1](relu(x)))


def test_a_module_that_does_not_run_is_not_in_the_result() -> None:
    assert received_inside(block(), Example((torch.randn(1, 3, 8, 8),)), {"relu": nn.ReLU()}, once=True) == {}


def test_what_several_modules_received_is_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "ROOM", -1)
    model = nn.Sequential(*(block() for _ in range(3))).eval()
    runs: list[str] = []
    for name, layer in model.named_modules():
        if name.count(".") == 0 and name:
            layer.register_forward_pre_hook(lambda *_, name=name: runs.append(name))
    x = torch.randn(1, 3, 16, 16)
    seen = evidence.Evidence(model, Example((x,)), None)
    seen.observation()
    expected = {name: seen.received(name).args[0] for name in ("1.0", "1.1.0", "1.2", "2.2")}
    runs.clear()
    seen.expect(expected)
    assert all(torch.equal(seen.received(name).args[0], value) for name, value in expected.items())
    assert runs == ["1", "2"]
