"""Models that cannot be operated on, strange outputs and inputs, and rules that misbehave: one clear line each."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery.fingerprint import fingerprint
from surgery.rule import Promise, Rule

X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.SiLU())


class Raises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("only on Sundays")


def quantized() -> nn.Module:
    from torch.ao.nn.quantized import Quantize

    return nn.Sequential(Quantize(1.0, 0, torch.quint8), nn.SiLU())


def prepared(train: bool) -> nn.Module:
    from torch.ao import quantization

    model = small().train(train)
    model.qconfig = quantization.get_default_qat_qconfig("x86") if train else quantization.get_default_qconfig("x86")
    return quantization.prepare_qat(model) if train else quantization.prepare(model)


def imitating() -> nn.Module:
    from torch.ao.quantization import FakeQuantize

    return nn.Sequential(small(), FakeQuantize())


@pytest.mark.filterwarnings("ignore:.*torch.(jit|ao.quantization).*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization.*:DeprecationWarning", "ignore:.*reduce_range:UserWarning")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: torch.jit.script(small()), "the model is scripted: apply surgery to the eager model"),
        (lambda: nn.Sequential(small(), torch.jit.trace(nn.SiLU(), X)), "its layer '1' is scripted"),
        (lambda: torch.export.export(small(), (X,)), "already exported: apply surgery to the eager model"),
        (lambda: torch.export.export(small(), (X,)).module(), "already exported"),
        (lambda: torch.compile(small(), backend="eager"), "compiled"),
        (quantized, "its layer '0' is quantized"),
        (lambda: prepared(train=True), r"its layer '0' is prepared for quantization \(Conv2d\): apply surgery to the"),
        (lambda: prepared(train=False), r"observes for quantization \(HistogramObserver\): apply surgery to the float"),
        (imitating, r"its layer '1' imitates quantization \(FakeQuantize\): apply surgery to the float model, then"),
        (lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.SiLU()), "its layer '0' is lazy and has no shape yet: run"),
        (lambda: "resnet18", "surgery takes a torch.nn.Module, not a str"),
        (Raises, "the model fails on the example inputs: ValueError: only on Sundays"),
    ],
)
def test_models_that_cannot_be_operated_on(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(surgery.SurgeryError, match=message) as raised:
        surgery.lite(build(), example_inputs=X)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("inputs", "message"), [(3, "example_inputs is a int"), ((object(),), "fails on|describe")])
def test_inputs_that_are_none(inputs: Any, message: str) -> None:
    with pytest.raises(surgery.SurgeryError, match=message):
        surgery.lite(small(), example_inputs=inputs)


class Outputs(nn.Module):
    def __init__(self, pack: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.act = nn.SiLU()
        self.pack = pack

    def forward(self, x: Tensor) -> Any:
        return self.pack(self.act(x) + F.gelu(x))


@pytest.mark.parametrize(
    "pack",
    [
        lambda y: {"out": y, "aux": None},
        lambda y: (y, [y, {"deep": y}], 3),
        lambda y: None,
        lambda y: y.mean(),
    ],
)
def test_any_kind_of_output(pack: Callable[[Tensor], Any]) -> None:
    lite, report = surgery.lite(Outputs(pack).eval(), example_inputs=X)
    assert report.by_rule() == {"gelu_to_relu": 1, "silu_to_relu": 1}
    assert not report.refusals
    assert type(lite(X)) is type(pack(X))


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.SiLU()

    def forward(self, x: Tensor, y: Tensor, *, scale: float = 1.0, mask: Tensor | None = None) -> Tensor:
        out = F.gelu(x) + self.act(y) * scale
        return out if mask is None else out * mask


@pytest.mark.parametrize(
    "inputs",
    [(X, X), {"x": X, "y": X}, {"x": X, "y": X, "scale": 2.0, "mask": X}],
)
def test_several_and_keyword_inputs(inputs: Any) -> None:
    lite, report = surgery.lite(Several(), example_inputs=inputs)
    assert report.by_rule() == {"gelu_to_relu": 1, "silu_to_relu": 1}
    again = surgery.replay(Several(), surgery.Plan.from_json(report.plan.to_json()))
    given = inputs if isinstance(inputs, dict) else dict(zip("xy", inputs, strict=True))
    expected = F.relu(given["x"]) + F.relu(given["y"]) * given.get("scale", 1.0)
    expected = expected * given["mask"] if "mask" in given else expected
    assert torch.allclose(lite(**given), expected)
    assert torch.equal(again(**given), lite(**given))


class Replaces(Rule):
    """Puts something in the place of a convolution."""

    name = "replaces"
    promise = Promise.SAME_SHAPE
    types = (nn.Conv2d,)

    def __init__(self, make: Callable[[nn.Module], nn.Module]) -> None:
        self.make = make

    def replacement(self, module: nn.Module, params: Any) -> nn.Module:
        return self.make(module)


def fails(module: nn.Module) -> nn.Module:
    raise RuntimeError("out of ideas")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda m: nn.Conv2d(4, 5, 3, padding=1), r"its output would become \[\(2, 5, 8, 8\)\] instead of \[\(2, 4"),
        (lambda m: nn.Conv2d(4, 4, 3), r"would become \[\(2, 4, 6, 6\)\] instead of \[\(2, 4, 8, 8\)\]"),
        (lambda m: nn.Conv2d(3, 4, 3, padding=1), "RuntimeError"),
        (fails, "out of ideas"),
        (lambda m: "a string", "out of ideas|not a Module|TypeError|AttributeError"),
    ],
)
def test_a_rule_that_misbehaves_is_refused_at_its_site(make: Callable[[nn.Module], Any], reason: str) -> None:
    model = small()
    before = fingerprint(model)
    with pytest.raises(surgery.SurgeryError, match=f"replaces .*{reason}"):
        surgery.lite(model, [Replaces(make)], example_inputs=X)
    assert fingerprint(model) == before


def test_the_sites_that_hold_are_kept() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1))
    lite, report = surgery.lite(model, [Replaces(lambda m: nn.Conv2d(4, 4, 1))], example_inputs=X)
    assert [edit.site for edit in report.edits] == ["0", "1"]
    halves = Replaces(lambda m: nn.Conv2d(4, 4, 1, stride=m.kernel_size[0]))  # type: ignore[attr-defined]
    lite, report = surgery.lite(model, [halves], example_inputs=X)
    assert [edit.site for edit in report.edits] == ["0"]
    assert [(r.rule, r.site) for r in report.refusals] == [("replaces", "1")]
    assert lite(X).shape == (2, 4, 8, 8)


class Wrong(Rule):
    """Promises the same output and does not keep it."""

    name = "wrong"
    promise = Promise.SAME_OUTPUT
    types = (nn.SiLU,)

    def replacement(self, module: nn.Module, params: Any) -> nn.Module:
        return nn.ReLU()


def test_a_broken_promise_is_caught() -> None:
    with pytest.raises(surgery.SurgeryError, match=r"wrong \(1: its output would change by 0\.\d+ of its largest"):
        surgery.lite(small(), [Wrong()], example_inputs=X)


def test_a_named_rule_that_matches_nothing() -> None:
    with pytest.raises(surgery.SurgeryError, match=r"gelu_to_relu \(it matches no layer\); take them off the list"):
        surgery.lite(small(), ["gelu_to_relu"], example_inputs=X)


def test_a_computed_tensor_on_a_module_is_no_obstacle() -> None:
    model = small()
    model[0].last = (model[0].weight * 2)[0]  # deepcopy refuses it
    lite, report = surgery.lite(model, example_inputs=X)
    assert report.by_rule() == {"silu_to_relu": 1}
    assert torch.equal(lite[0].last, model[0].last)


def test_what_no_rule_is_about_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    class Windows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.roll(x, 2, 3) + x.roll((1, 1), (2, 3))

    report = surgery.explain(nn.Sequential(Windows(), nn.SiLU()), example_inputs=X)
    assert [(left.site, left.call, left.count) for left in report.left_alone] == [("0", "roll", 2)]
    assert "still there:\n0  roll  2 x  no rule is about it\n" in capsys.readouterr().out


def test_explain_prints_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    model = small()
    before = fingerprint(model)
    report = surgery.explain(model, example_inputs=X)
    out = capsys.readouterr().out
    assert "silu_to_relu" in out
    assert "SiLU -> ReLU" in out
    assert "1 edits, 0 refusals: same shape, to be fine-tuned" in out
    assert report.by_rule() == {"silu_to_relu": 1}
    assert fingerprint(model) == before
