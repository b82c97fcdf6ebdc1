"""Forwards as people write them: side effects, stored values, optional arguments, sizes read from the input."""

import json
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import surgery

X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def overwrite(x: Tensor) -> Tensor:
    F.relu6(x, inplace=True)
    return x


def double(x: Tensor) -> Tensor:
    x = F.silu(x)
    x.mul_(2)
    return x


def clamp(x: Tensor) -> Tensor:
    x = F.silu(x)
    torch.clamp_(x, max=1.0)
    return x


def read_twice(x: Tensor) -> Tensor:
    y = F.silu(x, inplace=True)
    return x + y


def read_after(x: Tensor) -> Tensor:
    y = F.hardswish(x)
    F.silu(x, inplace=True)
    return x - y


class Calls(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x * 2)


class CallsModule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Calls(overwrite), lambda x: F.relu(2 * x)),
        (Calls(double), lambda x: 2 * F.relu(2 * x)),
        (Calls(clamp), lambda x: F.relu(2 * x).clamp(max=1)),
        (Calls(read_twice), lambda x: 2 * F.relu(2 * x)),
        (Calls(read_after), lambda x: torch.zeros_like(x)),
        (Calls(lambda x: x * F.hardsigmoid(x)), lambda x: F.relu(2 * x)),
        (Calls(lambda x: x * (F.relu6(x + 3) / 6)), lambda x: F.relu(2 * x)),
        (Calls(lambda x: x * F.relu6(x + 3) / 6), lambda x: F.relu(2 * x)),
        (CallsModule(), F.relu),
    ],
)
def test_what_a_forward_does_is_kept(model: nn.Module, expected: Callable[[Tensor], Tensor]) -> None:
    lite, report = surgery.lite(model, example_inputs=(X,))
    assert report.is_lite
    assert not report.refusals
    assert torch.allclose(lite(X), expected(X))


class Shaped(nn.Module):
    """A branch on a shape before a child with parameters: traced with the values it receives."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x: Tensor, scale: float | None = None, *, skip: bool = False) -> Tensor:
        assert x.shape[1] == 4
        y = F.silu(self.conv(x))
        if scale is not None:
            y = y * scale
        return x + y if skip else y


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Shaped()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x, scale=0.5, skip=True)


def test_optional_arguments_are_those_of_the_example() -> None:
    model = Twice()
    before = deepcopy(model.state_dict())
    lite, report = surgery.lite(model, example_inputs=(X,))
    assert [(e.site, e.params["trace"]) for e in report.edits] == [("block", "observed")]
    lite.eval()
    assert torch.allclose(lite(X), X + 0.5 * F.relu(lite.block.conv(X)))
    assert lite(X[:1]).shape == (1, 4, 8, 8)
    assert all(torch.equal(value, before[name]) for name, value in lite.state_dict().items()), "tracing runs children"
    with pytest.raises(AssertionError, match="specialized"):
        lite.block(X, scale=0.7, skip=True)
    again = surgery.replay(model, surgery.Plan.from_json(json.loads(json.dumps(report.plan.to_json()))))
    again.load_state_dict(lite.state_dict())
    assert torch.equal(again.eval()(X), lite(X))
    (refusal,) = surgery.lite(model)[1].refusals
    assert "may depend on its optional arguments scale, skip" in refusal.reason


def test_a_frozen_batch_is_refused() -> None:
    class Frozen(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.silu(x).view(int(x.shape[0]), -1)

    lite, report = surgery.lite(Frozen(), example_inputs=(X,))
    assert not report.is_lite
    assert "bound to the example's batch size" in report.refusals[0].reason
    assert torch.equal(lite(X), Frozen()(X))


class Stores(nn.Module):
    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.calls, self.last = what, 0, None
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.what == "attribute":
            self.last = x
        elif self.what == "counter":
            self.calls += 1
        else:
            self.count += 1
        return F.silu(x)


@pytest.mark.parametrize("what", ["attribute", "counter", "buffer"])
def test_a_forward_that_stores_is_left_and_named(what: str) -> None:
    model = Stores(what)
    lite, report = surgery.lite(model)
    assert not report.is_lite
    assert "stores values on the module" in report.refusals[0].reason
    assert (lite.last, lite.calls, float(lite.count)) == (None, 0, 0.0)
    surgery.replay(model, report.plan)
    with_inputs, report = surgery.lite(model, example_inputs=(X,), calibration=[X])
    surgery.replay(model, report.plan)
    assert (with_inputs.last, with_inputs.calls, float(with_inputs.count)) == (None, 0, 0.0)
    assert not report.is_lite
    assert isinstance(with_inputs.last, Tensor | None)
    assert torch.equal(with_inputs(X), F.silu(X))


def test_the_model_itself_cannot_be_replaced() -> None:
    lite, report = surgery.lite(nn.SiLU(), example_inputs=(X,))
    assert isinstance(lite, nn.SiLU)
    assert [(r.site, r.reason) for r in report.refusals] == [
        ("", "the model itself is this layer; put it into a Sequential")
    ]


def test_hooks_with_keywords_move_along() -> None:
    model, seen = nn.Sequential(nn.SiLU()), []
    model[0].register_forward_hook(lambda m, args, kwargs, out: seen.append(out), with_kwargs=True)
    lite, _ = surgery.lite(model, example_inputs=(X,))
    seen.clear()
    out = lite(X)
    assert len(seen) == 1
    assert seen[0] is out


def test_without_inputs_identities_stay_where_layers_may_be_indexed() -> None:
    model = nn.Sequential(nn.Identity(), nn.SiLU())
    lite, report = surgery.lite(model)
    assert len(lite) == 2
    assert [r.rule for r in report.refusals] == ["remove_identity"]


def test_a_gate_called_by_keyword_is_measured() -> None:
    from torchvision.ops.misc import SqueezeExcitation

    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.conv = SqueezeExcitation(4, 2), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.gate(input=x))

    lite, report = surgery.lite(Keyword(), ["squeeze_excite"], example_inputs=(X,), calibration=[X])
    assert report.by_rule() == {"squeeze_excite": 1}
    assert isinstance(lite.gate.scale, nn.Parameter)
    assert lite(X).shape == X.shape


def test_a_size_that_would_have_led_elsewhere_is_an_error() -> None:
    class Pads(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[2] % 8:
                x = F.pad(x, (0, 0, 0, 8 - x.shape[2] % 8))
            return F.silu(x)

    lite, report = surgery.lite(nn.Sequential(Pads()), example_inputs=(torch.randn(2, 4, 8, 8),))
    assert [edit.action for edit in report.edits] == ["1 x silu -> relu in forward, for images like the example's"]
    assert lite(torch.randn(3, 4, 16, 5)).shape == (3, 4, 16, 5)
    with pytest.raises(ValueError, match="rewritten for images like the example's"):
        lite(torch.randn(2, 4, 9, 8))
