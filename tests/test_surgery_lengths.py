"""Weights in front of BatchNorm at their former length: which, that nothing else changes, and what is left alone."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery.rules.channel_scale import ChannelScale

X = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0)).double()


def measured_norm(channels: int = 8, **changes: Any) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, **changes)
    for values in (norm.weight, norm.running_var):
        if values is not None:
            nn.init.uniform_(values, 0.1, 2.0)
    for values in (norm.bias, norm.running_mean):
        if values is not None:
            nn.init.normal_(values)
    return norm


def small_scale(channels: int = 4) -> ChannelScale:
    scale = ChannelScale(channels)
    nn.init.uniform_(scale.scale, 0.1, 0.5)
    return scale


class ReadTwice(nn.Module):
    """What the convolution gives is read by its BatchNorm and by something else, or returned too."""

    def __init__(self, returned: bool) -> None:
        super().__init__()
        self.scale, self.conv, self.norm, self.returned = small_scale(), nn.Conv2d(4, 8, 3), measured_norm(), returned

    def forward(self, inputs: Tensor) -> Any:
        given = self.conv(self.scale(inputs))
        return (given, self.norm(given)) if self.returned else self.norm(given) + given.relu()


class Shared(nn.Module):
    """Two convolutions before one BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.conv, self.other, self.norm = (
            small_scale(),
            nn.Conv2d(4, 8, 3),
            nn.Conv2d(4, 8, 3),
            measured_norm(),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        return self.norm(self.conv(self.scale(inputs))) + self.norm(self.other(inputs))


class Apart(nn.Module):
    """A backbone that ends with the convolution, which others may read, and a head that begins with BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(small_scale(), nn.Conv2d(4, 8, 3))
        self.head = nn.Sequential(measured_norm(), nn.ReLU())

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.backbone(inputs))


class Clamped(nn.Conv2d):
    """Gives something else than a product, which the example does not show."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).clamp(-100, 100)


def hooked() -> nn.Module:
    model = nn.Sequential(small_scale(), nn.Conv2d(4, 8, 3), measured_norm())
    model[1].register_forward_hook(lambda layer, args, output: output.clamp(-100, 100))
    return model


def lengthened(model: nn.Module) -> tuple[nn.Module, nn.Module, surgery.Lengths, surgery.Plan]:
    """The source, its lite model with longer weights, what was done, the plan; outputs are the source's everywhere."""
    source = model.double().eval()
    lite, report = surgery.lite(source, ["fold_channel_scale"], example_inputs=(X,))
    assert report.by_rule()["fold_channel_scale"] == 1
    lite.eval()
    lengths = surgery.lengthen(lite, source, report.plan, (X,))
    for inputs in (X, 100 * X, 1e4 * X[:1]):
        for expected, value in zip(as_tuple(source(inputs)), as_tuple(lite(inputs)), strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
    return source, lite, lengths, report.plan


def as_tuple(value: Any) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


def length(model: nn.Module) -> float:
    return next(layer.weight.norm().item() for layer in model.modules() if isinstance(layer, nn.Conv2d))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("changes", [{}, {"affine": False}, {"momentum": None}, {"eps": 0.1}])
def test_weights_that_batchnorm_follows_have_their_length_again(bias: bool, changes: dict[str, Any]) -> None:
    model = nn.Sequential(small_scale(), nn.Conv2d(4, 8, 3, bias=bias), measured_norm(**changes))
    source, lite, lengths, plan = lengthened(model)
    assert lengths == surgery.Lengths(("1",), ())
    assert length(lite) == pytest.approx(length(source), rel=1e-9)
    again = surgery.lengthen(lite, source, plan, (X,))
    assert again == surgery.Lengths((), (("1", "its weights are no shorter than in the source"),))
    fresh = surgery.replay(copy.deepcopy(model), plan).eval()
    fresh.load_state_dict(lite.state_dict())
    assert torch.equal(fresh(X), lite(X))


def test_a_step_turns_longer_weights_less() -> None:
    """By the square of their length: the gradient's share of the weights is four times as large with half of it."""
    source = nn.Sequential(ChannelScale(4, value=0.5), nn.Conv2d(4, 8, 3, bias=False), measured_norm()).double()
    lite, plan = folded(source, X)
    longer = copy.deepcopy(lite)
    surgery.lengthen(longer, source, plan, (X,))
    shares = []
    for model in (lite, longer):
        (model.train()(X) * X.flatten()[: 2 * 8 * 4 * 4].view(2, 8, 4, 4)).sum().backward()
        weight = next(layer.weight for layer in model.modules() if isinstance(layer, nn.Conv2d))
        assert weight.grad is not None
        shares.append((weight.grad.norm() / weight.detach().norm()).item())
    assert shares[0] / shares[1] == pytest.approx(4, rel=1e-3)


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda: nn.Sequential(small_scale(), nn.Conv2d(4, 8, 3), nn.ReLU()), id="no norm"),
        pytest.param(
            lambda: nn.Sequential(small_scale(), nn.Conv2d(4, 8, 3), nn.InstanceNorm2d(8, track_running_stats=True)),
            id="another norm",
        ),
        pytest.param(
            lambda: nn.Sequential(small_scale(), nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8, track_running_stats=False)),
            id="no statistics",
        ),
        pytest.param(lambda: ReadTwice(True), id="returned"),
        pytest.param(lambda: ReadTwice(False), id="read twice"),
        pytest.param(Shared, id="shared"),
        pytest.param(Apart, id="apart"),
        pytest.param(lambda: nn.Sequential(small_scale(), Clamped(4, 8, 3), measured_norm()), id="own forward"),
        pytest.param(hooked, id="hooked"),
    ],
)
def test_weights_that_something_else_may_read_are_no_candidates(build: Callable[[], nn.Module]) -> None:
    source, lite, lengths, plan = lengthened(build())
    assert lengths == surgery.Lengths((), ())
    assert not any("norm" in edit.params for edit in plan.edits)
    assert length(lite) < 0.6 * length(source)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (
            lambda: nn.Sequential(small_scale(), nn.Conv2d(4, 8, 3, groups=2), measured_norm()),
            "it is grouped, and BatchNorm scales each filter by itself",
        ),
        (
            lambda: nn.Sequential(ChannelScale(4, value=3.0), nn.Conv2d(4, 8, 3), measured_norm()),
            "its weights are no shorter than in the source",
        ),
        (
            lambda: nn.Sequential(ChannelScale(4, value=0.0), nn.Conv2d(4, 8, 3), measured_norm()),
            "its weights are no shorter than in the source",
        ),
    ],
)
def test_what_is_left_is_told(build: Callable[[], nn.Module], reason: str) -> None:
    _, _, lengths, _ = lengthened(build())
    assert lengths == surgery.Lengths((), (("1", reason),))


def folded(model: nn.Module, inputs: Tensor) -> tuple[nn.Module, surgery.Plan]:
    lite, report = surgery.lite(model.eval(), ["fold_channel_scale"], example_inputs=(inputs,))
    return lite.eval(), report.plan


def test_statistics_that_their_type_cannot_hold_are_left() -> None:
    source = nn.Sequential(ChannelScale(4, value=0.01), nn.Conv2d(4, 8, 3), measured_norm()).half()
    source[2].running_var.fill_(100.0)
    lite, plan = folded(source, X.half())
    before = copy.deepcopy(lite.state_dict())
    lengths = surgery.lengthen(lite, source, plan, (X.half(),))
    assert lengths.left == (("1", "its statistics would be too large for their type"),)
    assert all(torch.equal(value, before[name]) for name, value in lite.state_dict().items())


def test_where_the_output_would_change_nothing_is_done() -> None:
    source = nn.Sequential(small_scale(), nn.Conv2d(4, 8, 3), measured_norm()).double()
    lite, plan = folded(source, X)
    lite[2].forward = lambda inputs: F.batch_norm(inputs, None, None, training=True, eps=0.5)  # of late
    before = copy.deepcopy(lite.state_dict())
    lengths = surgery.lengthen(lite, source, plan, (X,))
    assert lengths.layers == ()
    assert lengths.left[0][1].startswith("the model's output would change by ")
    assert all(torch.equal(value, before[name]) for name, value in lite.state_dict().items())


def test_a_model_that_fails_stays_as_it_was() -> None:
    source = nn.Sequential(small_scale(), nn.Conv2d(4, 8, 3), measured_norm()).double()
    lite, plan = folded(source, X)
    for inputs, text in ((X[:, :2], "lengthen: "), (None, "no example inputs")):
        with pytest.raises(surgery.SurgeryError, match=text):
            surgery.lengthen(lite, source, plan, inputs)
    assert length(lite) < 0.6 * length(source)


def test_a_refit_comes_before_and_stays() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, 3, bias=False)
    source = nn.Sequential(nn.Hardswish(), small_scale(), conv, measured_norm(), nn.ReLU()).double().eval()
    lite, report = surgery.lite(source, ["hardswish_to_relu", "fold_channel_scale"], (X,), [X])
    lite.eval()

    images = torch.randn(64, 4, 6, 6).double()

    def distance() -> float:
        return float((lite(images) - source(images)).detach().norm())

    before = distance()
    refit = surgery.refit(lite, source, [images])
    assert [layer.layer for layer in refit.fitted] == ["2"]
    after = distance()
    assert after < before
    assert surgery.lengthen(lite, source, report.plan, (X,)).layers == ("2",)
    assert distance() == pytest.approx(after, rel=1e-9)
