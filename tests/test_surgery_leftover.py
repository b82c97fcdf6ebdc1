"""What is left is told: whatever really runs and no edit took is in the refusals or in what the report left alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune

import surgery
from surgery.observing.unfriendly import unfriendly

X = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))


def between(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 4, 1), layer, nn.Conv2d(4, 4, 1)).eval()


class Call(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning", "ignore:.*torch.jit.*:DeprecationWarning")
def test_a_scripted_function_is_told() -> None:
    def swish(x: Tensor) -> Tensor:
        return torch.nn.functional.silu(x)

    function = torch.jit.script(swish)

    class Scripted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)  # type: ignore[no-any-return]

    lite, report = surgery.lite(between(Scripted()), example_inputs=X)
    assert [(left.site, left.call, left.count, left.reason) for left in report.left_alone] == [
        ("1", "silu", 1, "no rule matched it here")
    ]
    assert [fault.operator for fault in unfriendly(lite, (X,))] == ["silu"]


@pytest.mark.parametrize(
    ("function", "call"),
    [
        (lambda x: x / x.norm(dim=1, keepdim=True), "linalg_vector_norm"),
        (lambda x: F.local_response_norm(x, 3), "power 0.75"),
        (lambda x: F.lp_pool2d(x, 2.0, 5), "average pool 5x5"),
        (lambda x: torch.special.ndtr(x) * torch.erf(x), "erf"),
    ],
)
def test_layers_that_no_rule_is_about_are_told(function: Callable[[Tensor], Tensor], call: str) -> None:
    lite, report = surgery.lite(between(Call(function)), example_inputs=X)
    told = {left.call for left in report.left_alone} | {refusal.site for refusal in report.refusals}
    assert call in told or "1" in told
    assert all(left.reason for left in report.left_alone)
    assert [fault.operator for fault in unfriendly(lite, (X,))]


def test_a_refusal_is_told_once() -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.silu(x) if x.sum() > 0 else F.silu(-x)

    _, report = surgery.lite(between(Branches()), example_inputs=X)
    assert {refusal.rule for refusal in report.refusals} == {"silu_to_relu"}
    assert not report.left_alone


def test_calls_in_train_mode_alone_are_told() -> None:
    class Trains(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.gelu(x) if self.training else x * 1.0

    _, report = surgery.lite(between(Trains()), example_inputs=X)
    (left,) = report.left_alone
    assert (left.site, left.call, left.count) == ("1", "gelu", 0)
    assert "did not run in eval mode" in left.reason


def test_a_layer_that_has_a_call_s_name_is_no_call() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x) if self.norm.training or x.is_floating_point() else x

    class Method(Block):
        def __init__(self) -> None:
            super().__init__()
            self.gelu = F.gelu

        def forward(self, x: Tensor) -> Tensor:
            return self.gelu(x) if self.training else self.norm(x)

    _, report = surgery.lite(between(Block()), example_inputs=X)
    assert not report.left_alone
    _, report = surgery.lite(between(Method()), example_inputs=X)
    assert [(left.site, left.call) for left in report.left_alone] == [("1", "gelu")]


def test_what_named_rules_and_sites_leave_is_left_on_purpose() -> None:
    model = nn.Sequential(nn.SiLU(), nn.Conv2d(4, 4, 7), nn.GELU(), nn.Conv2d(4, 4, 1))
    assert not surgery.lite(model, ["silu_to_relu"], X)[1].left_alone
    assert not surgery.lite(model, example_inputs=X, sites={"gelu_to_relu": []})[1].left_alone


def test_a_clean_model_has_nothing_left_and_no_run_tells_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.SiLU(), nn.Conv2d(4, 4, 7))
    assert not surgery.lite(model, example_inputs=X)[1].left_alone
    assert not surgery.lite(between(Call(lambda x: F.local_response_norm(x, 3))))[1].left_alone


def test_looking_leaves_the_model_as_it_was() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(()))
            self.last: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            self.count += x.mean()
            self.last = F.local_response_norm(x, 3)
            return self.last

    lite, _ = surgery.lite(between(Counts()), example_inputs=X)
    assert lite[1].count == 0
    assert lite[1].last is None


@pytest.mark.parametrize("train", [False, True])
def test_pruned_layers_are_stored(train: bool) -> None:
    layer = nn.Conv2d(4, 4, 7, padding=3)
    prune.random_unstructured(layer, "weight", 0.5)
    prune.random_unstructured(layer, "weight", 0.2)
    prune.l1_unstructured(layer, "bias", 0.5)
    model = between(layer).train(train)
    lite, report = surgery.lite(model, example_inputs=X)
    assert report.by_rule() == {"fold_computed_weights": 1, "split_large_kernel": 1}
    assert torch.allclose(lite.eval()(X), model.eval()(X), atol=1e-6)
    again = surgery.replay(model, report.plan)
    assert torch.equal(again.eval()(X), lite(X))
    assert hasattr(model[1], "weight_mask")


@pytest.mark.parametrize(
    ("layer", "call"),
    [
        (nn.Conv3d(4, 4, 7, padding=3), "convolution 7x7x7"),
        (nn.MaxPool3d(5, 1, 2), "max pool 5x5x5"),
        (nn.AvgPool3d(5, 1, 2), "average pool 5x5x5"),
        (nn.AdaptiveAvgPool3d(3), "adaptive_avg_pool3d to 3x3x3"),
        (nn.ConvTranspose3d(4, 4, 7, 3), "transposed convolution 7x7x7"),
    ],
)
def test_layers_on_volumes_are_told(layer: nn.Module, call: str) -> None:
    model = nn.Sequential(nn.Conv3d(4, 4, 1), layer, nn.Conv3d(4, 4, 1)).eval()
    _, report = surgery.lite(model, example_inputs=torch.randn(1, 4, 8, 8, 8))
    (left,) = report.left_alone
    assert left.site == "1"
    assert left.call.startswith(call)
    assert left.reason == "it works on volumes, and the rules on images and sequences"
    assert not report.edits


@pytest.mark.parametrize("layer", [nn.Tanhshrink(), nn.LogSigmoid()])
def test_activations_that_were_silent(layer: nn.Module) -> None:
    lite, report = surgery.lite(between(layer), example_inputs=X)
    assert len(report.edits) == 1
    assert not report.left_alone
    assert not unfriendly(lite, (X,))
    shape = torch.linspace(-6, 6, 50)
    assert (lite[1](shape) - layer(shape)).abs().max() < 0.7
