"""A rewritten forward does what the author's did, on other sizes, in train mode, with other buffers; or is refused."""

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import surgery

X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
RULE = ["softmax_last_axis"]  # exact, and only where a forward calls it


class Calls(nn.Module):
    """A module whose forward is a given function of it and its inputs."""

    def __init__(self, run: Callable[..., Any], **held: Any) -> None:
        super().__init__()
        self.run = [run]
        for name, value in held.items():
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, x: Tensor) -> Any:
        return self.run[0](self, x)


def test_a_buffer_stays_a_buffer() -> None:
    def make() -> nn.Module:
        return Calls(lambda s, x: F.softmax(x * (s.t + 1) * (s.t + 2).rsqrt(), 1), t=torch.ones(1))

    source = make()
    source.t.fill_(5.0)
    lite, report = surgery.lite(source, RULE, X)
    again = surgery.replay(make(), report.plan)
    again.load_state_dict(lite.state_dict())
    assert torch.equal(again(X), lite(X))
    source.t.fill_(0.5)
    lite.t.fill_(0.5)
    assert torch.allclose(lite(X), source(X))


def split(s: Any, x: Tensor) -> Tensor:
    return torch.cat([F.softmax(part, 1) for part in x.split(4, -1)], -1)


def unbind(s: Any, x: Tensor) -> Tensor:
    return torch.stack([F.silu(image) for image in x.unbind(0)])


def test_numbers_of_parts_are_not_frozen() -> None:
    lite, _ = surgery.lite(Calls(split), RULE, X)
    with pytest.raises(ValueError, match="images like the example's: 2 was decided by their size, and it is 4 now"):
        lite(torch.randn(1, 4, 8, 16))
    _, report = surgery.lite(nn.Sequential(Calls(unbind), nn.SiLU()), example_inputs=X)
    assert [r.reason for r in report.refusals] == ["it would be bound to the example's batch size: ValueError"]


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (lambda s, x: F.silu(x if isinstance(x, Tensor) else x * 0), "traced, its output would change"),
        (lambda s, x: F.silu(x) * random.random(), "draws random numbers"),
        (lambda s, x: F.silu(x) * torch.rand(()), "draws random numbers"),
        (lambda s, x: F.silu(x) * torch.stack([p.norm() for p in s.c.parameters()]).sum(), "reads past the module"),
        (lambda s, x: F.silu(x) if x.sum() < 1e9 else x, "depends on the values in a tensor"),
    ],
)
def test_what_a_graph_cannot_say_is_refused(run: Callable[..., Any], reason: str) -> None:
    model = nn.Sequential(Calls(run, c=nn.Conv2d(4, 4, 1)), nn.SiLU())
    lite, report = surgery.lite(model.eval(), ["silu_to_relu"], X)
    assert [edit.site for edit in report.edits] == ["1"]
    (refusal,) = report.refusals
    assert refusal.site == "0"
    assert reason in refusal.reason
    copy.deepcopy(lite)


def test_a_scope_under_another_name_is_seen() -> None:
    without = torch.no_grad

    def run(s: Any, x: Tensor) -> Tensor:
        with without():
            gate = torch.sigmoid(x * s.w)
        return F.softmax(x * s.w * gate, 1)

    with pytest.raises(surgery.SurgeryError, match="under another gradient or autocast mode"):
        surgery.lite(Calls(run, w=nn.Parameter(torch.ones(4, 1, 1))), RULE, X)


class Noisy(nn.Module):
    @property
    def noisy(self) -> bool:
        return self.training

    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(F.dropout(x, 0.5, self.noisy), 1)


def test_train_mode_is_traced_however_it_is_read() -> None:
    lite, _ = surgery.lite(nn.Sequential(Noisy()), RULE, X)
    assert not torch.equal(lite.train()(X), lite(X))
    assert torch.equal(lite.eval()(X), lite(X))


class Pair(nn.Module):
    def __init__(self, a: nn.Module, b: nn.Module) -> None:
        super().__init__()
        self.a, self.b = a, b

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.a(x)) + self.b(x)


def test_modules_that_share_differently_are_not_alike() -> None:
    shared = nn.Conv2d(4, 4, 1)
    model = nn.Sequential(Pair(shared, shared), Pair(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)))
    lite, _ = surgery.lite(model, example_inputs=X)
    lite(X).sum().backward()
    assert all(p.grad is not None for p in lite.parameters())


class Optional(nn.Module):
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return F.softmax(x if mask is None else x * 2, 1)


def test_an_optional_tensor_has_to_be_given_again() -> None:
    lite, _ = surgery.lite(Optional(), RULE, (X, X))
    assert torch.allclose(lite(X, X), Optional()(X, X))
    with pytest.raises(ValueError, match="rewritten for calls with mask"):
        lite(X)


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 7, padding=3)
        self.act = nn.SiLU()
        self.blocks = [self.conv, self.act]

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def test_a_plain_list_of_modules_holds_the_new_ones() -> None:
    model = Listed()
    lite, report = surgery.lite(model, example_inputs=X)
    assert report.by_rule() == {"split_large_kernel": 1, "silu_to_relu": 1}
    assert lite.blocks == [lite.conv, lite.act]
    assert model.blocks == [model.conv, model.act]
    lite(X).sum().backward()
    assert all(p.grad is not None for p in lite.parameters())


def test_a_write_into_a_view_is_left() -> None:
    def run(s: Any, x: Tensor) -> Tensor:
        y = x * 1
        F.silu(y[:, :2], inplace=True)
        return y

    _, report = surgery.lite(nn.Sequential(Calls(run), nn.SiLU()), example_inputs=X)
    (refusal,) = [r for r in report.refusals if r.rule == "silu_to_relu"]
    assert "works inplace on a value that others see through views" in refusal.reason


class Inplace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.hardsigmoid(x, inplace=True)


def test_an_inplace_call_becomes_several_calls() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), Inplace(), nn.Conv2d(4, 4, 1))
    for inputs in (None, X):
        lite, report = surgery.lite(model, ["hardsigmoid_to_clamp"], inputs)
        assert len(report.edits) == 1
        assert torch.allclose(lite(X), model(X), atol=1e-6)


def test_full_backward_hooks_are_kept() -> None:
    seen: list[str] = []
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.SiLU())
    model[1].register_full_backward_hook(lambda *_: seen.append("act"))
    surgery.lite(model, example_inputs=X)[0](X).sum().backward()
    assert seen == ["act"]


def test_a_forward_set_on_the_instance_is_left() -> None:
    model = nn.Sequential(nn.SiLU(), nn.SiLU())
    model[0].forward = torch.tanh
    lite, report = surgery.lite(model, ["silu_to_relu"], X)
    assert [edit.site for edit in report.edits] == ["1"]
    assert torch.allclose(lite(X), torch.relu(torch.tanh(X)))


class Broken(surgery.Rule):
    """Promises the same output and gives no number."""

    name = "broken"
    promise = surgery.Promise.SAME_OUTPUT
    types = (nn.SiLU,)

    def replacement(self, module: nn.Module, params: Any) -> nn.Module:
        return nn.Threshold(1e9, float("nan"))


def test_no_number_is_not_the_same_output() -> None:
    with pytest.raises(surgery.SurgeryError, match="would change by inf of its largest value"):
        surgery.lite(nn.Sequential(nn.SiLU()), [Broken()], X)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_exact_rules_hold_in_low_precision(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 7, padding=3)).to(dtype)
    _, report = surgery.lite(model, ["split_large_kernel"], X.to(dtype))
    assert not report.refusals


def test_the_random_state_is_left() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 7, padding=3), nn.SiLU())
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    surgery.lite(model, example_inputs=X)
    assert torch.equal(torch.rand(1), expected)


def test_under_inference_mode() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.SiLU())
    with torch.inference_mode():
        lite, _ = surgery.lite(model, example_inputs=X * 1)
    lite(X).sum().backward()


def numbers(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape)


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ([(numbers((2, 4, 8, 8)), torch.tensor([1, 2]))], "fails on a calibration batch: TypeError.*nothing else"),
        ([numbers((2, 3, 8, 8))], "fails on a calibration batch: RuntimeError"),
        ([None, 3], "calibration batch"),
        (5, "calibration is a int; give a list of batches"),
        (["text"], "a calibration batch is a str"),
    ],
)
def test_bad_calibration_is_one_line(calibration: Any, message: str) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.SiLU())
    with pytest.raises(surgery.SurgeryError, match=message):
        surgery.lite(model, example_inputs=X, calibration=calibration)


@pytest.mark.parametrize("calibration", [X, [X], iter([X, X]), [(X,)], [{"input": X}], []])
def test_calibration_in_any_form(calibration: Any) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.SiLU())
    surgery.lite(model, example_inputs=X, calibration=calibration)


@pytest.mark.parametrize("rules", [[Broken], [None], [3], None, 5, {nn.SiLU: nn.ReLU}])
def test_bad_rules_are_one_line(rules: Any) -> None:
    with pytest.raises(surgery.SurgeryError, match="rules must be"):
        surgery.lite(nn.Sequential(nn.SiLU()), rules, X)
