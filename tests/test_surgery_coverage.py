"""The coverage benchmark tells friendly from unfriendly operators, and a row from a failure."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import surgery_coverage
import surgery_models
import surgery_trial

from surgery.observing.unfriendly import unfriendly


class Does(nn.Module):
    """A forward that is one function, between a layer before and one after it so that nothing only feeds outputs."""

    def __init__(self, function: Callable[..., Tensor], **parameters: Tensor) -> None:
        super().__init__()
        self.function = function
        for name, value in parameters.items():
            self.register_parameter(name, nn.Parameter(value))

    def forward(self, x: Tensor) -> Tensor:
        """The function of the input and the parameters."""
        return self.function(x, *self.parameters()) + 1


def left(model: nn.Module, *shape: int) -> list[str]:
    """The unfriendly operators on an input of that shape."""
    return [fault.operator for fault in unfriendly(model, (torch.rand(shape),))]


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (torch.sigmoid, ["sigmoid"]),
        (F.silu, ["silu"]),
        (F.hardsigmoid, ["hardsigmoid"]),
        (F.hardswish, ["hardswish"]),
        (F.gelu, ["gelu"]),
        (F.mish, ["mish"]),
        (F.relu6, ["hardtanh"]),
        (F.elu, ["elu"]),
        (F.celu, ["celu"]),
        (F.selu, ["elu"]),
        (F.softplus, ["softplus"]),
        (F.logsigmoid, ["log_sigmoid_forward"]),
        (torch.tanh, ["tanh"]),
        (torch.erf, ["erf"]),
        (torch.relu, []),
        (F.leaky_relu, []),
        (lambda x: x.clamp(0, 6), []),
        (lambda x: x.clone().sigmoid_(), ["sigmoid"]),
        (lambda x: F.layer_norm(x, (8, 8)), ["native_layer_norm"]),
        (lambda x: F.group_norm(x, 2), ["native_group_norm"]),
        (F.instance_norm, ["normalization by its own statistics"]),
        (lambda x: x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1), ["rsqrt"]),
        (lambda x: x - torch.var_mean(x, 1, keepdim=True)[1], ["var_mean"]),
        (F.normalize, ["linalg_vector_norm"]),
        (lambda x: x / x.norm(dim=1, keepdim=True), ["linalg_vector_norm"]),
        (lambda x: x / (x.square().mean(1, keepdim=True) + 1).sqrt(), ["sqrt"]),
        (lambda x: x * (x.pow(2).mean(1, keepdim=True) + 1).pow(-0.5), ["power -0.5"]),
        (lambda x: F.max_pool2d(x, 3, 2), []),
        (lambda x: F.max_pool2d(x, 5, 1), ["max pool 5x5"]),
        (lambda x: F.avg_pool2d(x, 3), []),
        (lambda x: F.avg_pool2d(x, 4), ["average pool 4x4"]),
        (lambda x: F.avg_pool2d(x, 8), []),
        (lambda x: F.adaptive_avg_pool2d(x, 1), []),
        (lambda x: F.adaptive_avg_pool2d(x, (2, 4)), ["adaptive_avg_pool2d to 2x4"]),
        (lambda x: F.adaptive_max_pool2d(x, 2), ["adaptive_max_pool2d to 2x2"]),
        (lambda x: F.interpolate(x, scale_factor=2), []),
        (lambda x: F.interpolate(x, size=(16, 24), mode="bilinear"), []),
        (lambda x: F.interpolate(x, size=12), ["upsample_nearest2d 8x8 to 12x12"]),
        (lambda x: F.interpolate(x, scale_factor=0.5), ["upsample_nearest2d 8x8 to 4x4"]),
        (
            lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
            ["upsample_bilinear2d align_corners"],
        ),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), ["upsample_bicubic2d"]),
        (lambda x: F.interpolate(x, size=4, mode="bilinear", antialias=True), ["upsample_bilinear2d_aa"]),
        (lambda x: F.softmax(x, -1), []),
        (lambda x: F.softmax(x, 3), []),
        (lambda x: F.softmax(x, 1), ["softmax on axis 1"]),
        (lambda x: F.pixel_shuffle(x, 2), ["pixel_shuffle"]),
        (lambda x: F.pixel_unshuffle(x, 2), ["pixel_unshuffle"]),
        (lambda x: F.channel_shuffle(x, 2), ["channel_shuffle"]),
        (lambda x: F.scaled_dot_product_attention(x, x, x), ["fused attention"]),
        (lambda x: x.matmul(x.mT).softmax(-1).matmul(x), []),
        (lambda x: F.pad(x, (1, 1)).roll(1, 2)[:, :, ::2], []),
    ],
)
def test_functions(function: Callable[..., Tensor], found: list[str]) -> None:
    assert left(Does(function), 2, 4, 8, 8) == found


@pytest.mark.parametrize(
    ("layer", "found"),
    [
        (nn.Conv2d(4, 4, 5), []),
        (nn.Conv2d(4, 4, 3, dilation=3), []),
        (nn.Conv2d(4, 4, 6, stride=6), []),
        (nn.Conv2d(4, 4, (1, 7)), ["convolution 1x7 stride 1x1"]),
        (nn.Conv2d(4, 4, 7, stride=4, groups=4), ["convolution 7x7 stride 4x4"]),
        (nn.ConvTranspose2d(4, 4, 2, 2), []),
        (nn.ConvTranspose2d(4, 4, 4, 2), []),
        (nn.ConvTranspose2d(4, 4, 3, 2), []),
        (nn.ConvTranspose2d(4, 4, 4, 4), ["transposed convolution 4x4 stride 4x4"]),
        (nn.ConvTranspose2d(4, 4, 3, 1), ["transposed convolution 3x3 stride 1x1"]),
        (nn.BatchNorm2d(4), []),
        (nn.InstanceNorm2d(4, track_running_stats=True), []),
        (nn.PReLU(), []),
    ],
)
def test_layers(layer: nn.Module, found: list[str]) -> None:
    assert left(layer, 2, 4, 8, 8) == found


@pytest.mark.parametrize(
    ("function", "shape", "gates"),
    [
        (lambda x, w: x * x.mean((2, 3), keepdim=True), (2, 4, 8, 8), 1),
        (lambda x, w: x.mean((2, 3), keepdim=True) * x, (2, 4, 8, 8), 1),
        (lambda x, w: x * x.mean((2, 3), keepdim=True).expand_as(x), (2, 4, 8, 8), 1),
        (lambda x, w: x * x.mean((1, 2), keepdim=True), (2, 8, 8, 4), 1),
        (lambda x, w: x.view(2, 2, 2, 8, 8) * x.view(2, 2, 2, 8, 8).mean((1, 3, 4), keepdim=True), (2, 4, 8, 8), 1),
        (lambda x, w: x * w.view(1, 4, 1, 1).sigmoid(), (2, 4, 8, 8), 0),  # a scale that is no data
        (lambda x, w: x * x, (2, 4, 8, 8), 0),
        (lambda x, w: x * x.mean((2, 3), keepdim=True), (2, 4, 1, 1), 0),
        (lambda x, w: x * x.mean(1, keepdim=True), (2, 4, 8, 8), 0),  # of places, not of channels
    ],
)
def test_gates(function: Callable[..., Tensor], shape: tuple[int, ...], gates: int) -> None:
    assert left(Does(function, weight=torch.rand(4)), *shape) == ["gate"] * gates


def test_an_activation_that_only_feeds_outputs_is_no_fault() -> None:
    head = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sigmoid(), nn.Flatten(), nn.Unflatten(1, (2, -1)))
    assert left(head, 2, 3, 4, 4) == []
    assert left(nn.Sequential(head, nn.ReLU()), 2, 3, 4, 4) == ["sigmoid"]


def test_a_result_that_is_both_output_and_read_further_is_a_fault() -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            y = x.sigmoid()
            return {"out": y, "more": y + 1}

    assert left(Both(), 2, 3) == ["sigmoid"]


def test_data_written_into_a_new_tensor_is_followed() -> None:
    def forward(x: Tensor) -> Tensor:
        whole = torch.zeros(2, 6)
        whole[:, ::2] = x
        return F.gelu(whole)

    assert left(Does(forward), 2, 3) == ["gelu"]


def test_faults_name_the_module_and_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1), nn.GELU()), nn.BatchNorm2d(3)).train()
    (fault,) = unfriendly(model, (torch.rand(2, 3, 4, 4),))
    assert (fault.module, fault.module_class, fault.operator) == ("0.1", "GELU", "gelu")
    assert model.training
    assert model[1].num_batches_tracked == 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_names_are_missed_only_outside_replaced_modules() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.Linear(4, 4)))
    without = nn.Sequential(model[0], nn.Sequential(nn.Identity()))
    replaced = surgery.Edit("rule", "1.0", "", "same_shape")
    rewritten = surgery.Edit("rule", "1.0", "", "same_shape", {"rewrites": {"train": 1, "eval": 1}})
    removing = surgery.Edit("rule", "1", "", "same_shape", {"rewrites": {"train": 1, "eval": 1}, "removed": ["0"]})
    assert surgery_trial._missing(model, model, [rewritten]) == []
    assert surgery_trial._missing(model, without, [replaced]) == []
    assert surgery_trial._missing(model, without, [removing]) == []
    assert surgery_trial._missing(model, without, [rewritten]) == ["1.0.bias", "1.0.weight"]
    assert surgery_trial._missing(model, nn.Sequential(nn.Conv2d(3, 5, 1), model[1]), []) == ["0.bias", "0.weight"]


def test_a_replaced_module_may_have_several_names() -> None:
    shared = nn.Linear(4, 4)
    model, without = nn.Sequential(shared, shared), nn.Sequential(nn.Identity(), nn.Identity())
    assert surgery_trial._missing(model, without, [surgery.Edit("rule", "0", "", "same_shape")]) == []
    assert len(surgery_trial._missing(model, without, [])) == 4


def test_a_model_learns_when_gradients_reach_what_they_reached_before() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    inputs = (torch.rand(2, 3),)
    assert surgery_trial._learns(model, nn.Sequential(nn.Linear(3, 3), nn.Identity()), [inputs]) is True
    cut = nn.Sequential(nn.Linear(3, 3), nn.Sequential(Does(lambda x: x.detach()), nn.Linear(3, 3)))
    cut[1].weight, cut[1].bias = cut[1][1].weight, cut[1][1].bias
    assert "no gradient reaches 2 parameters, such as 0.bias" in str(surgery_trial._learns(model, cut, [inputs]))
    assert "RuntimeError" in str(surgery_trial._learns(model, nn.Sequential(nn.Linear(4, 3)), [inputs]))
    assert surgery_trial._learns(nn.Linear(4, 3), model, [inputs]) is None
    pooled = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))  # learns from two images, not from one
    assert surgery_trial._learns(pooled, pooled, [(torch.rand(1, 3),)]) is None
    assert surgery_trial._learns(pooled, pooled, [(torch.rand(1, 3),), (torch.rand(2, 3),)]) is True


def row(**answers: object) -> surgery_coverage.Row:
    """A row in which all is well but what is said."""
    good = {"library": "timm", "model": "m", "stage": "done", "seconds": 0.1, "edits": {"rule": 99}, "refusals": []}
    return good | dict.fromkeys(surgery_coverage.COLUMNS, True) | {"left": []} | answers


def test_goals_are_shares_of_the_models_that_can_be_asked() -> None:
    assert surgery_coverage.misses([row(size=None, batch=None)]) == []
    assert surgery_coverage.misses([row(), row(batch="shapes")]) == ["timm: batch 50.0%, goal 100%"]
    crashed = {"library": "timm", "model": "m", "stage": "surgery", "error": "ValueError: no"}
    assert "timm: finished 50.0%, goal 100%" in surgery_coverage.misses([row(), crashed])
    refusal = {"rule": "rule", "site": "layer", "reason": "no"}
    left = [{"module": "layer.act", "module_class": "Block", "operator": "gelu"}]
    refused = row(refusals=[refusal] * 2, left=left)
    assert surgery_coverage.misses([refused]) == ["timm: 2.0% of sites refused, goal 1% at most"]
    assert surgery_coverage.misses([row(refusals=[refusal] * 2)]) == [], "nothing unfriendly is at the site"
    assert surgery_coverage.misses([row(seconds=11.0)]) == [
        "timm: median 11.00 s, goal 0.25 s",
        "timm: longest 11.00 s, goal 10.0 s",
    ]


def test_the_report_counts_models_by_cause() -> None:
    fault = {"module": "a", "module_class": "Block", "operator": "gelu"}
    lines = surgery_coverage.report([row(left=[fault, fault], clean=False), row(left=[fault], clean=False)])
    assert "   2 gelu in Block" in lines
    assert lines[-1] == "missed: timm: clean 0.0%, goal 95%"


def test_times_are_told_by_library_and_of_all_and_a_failure_with_its_cause() -> None:
    rows = [row(seconds=0.1), row(seconds=0.3), row(library="mmyolo", seconds=0.5)]
    failed = {"library": "mmyolo", "model": "y", "stage": "surgery", "error": "ValueError: no"}
    assert surgery_coverage.times([*rows, failed]) == [
        "timm           2 models, median 0.20 s, longest 0.30 s",
        "mmyolo         1 models, median 0.50 s, longest 0.50 s",
        "all            3 models, median 0.30 s, longest 0.50 s",
        "y: surgery: ValueError: no",
    ]


def test_the_table_names_a_model_of_every_family() -> None:
    timm = pytest.importorskip("timm")
    families = {family for family in timm.list_modules() if timm.list_models(module=family)}
    found = {timm.models.model_entrypoint(name).__module__.rpartition(".")[2] for name in surgery_models.names("timm")}
    assert found == families


def test_the_subset_for_every_change_is_30_of_the_models() -> None:
    pytest.importorskip("timm")
    chosen = surgery_models.chosen(None, None, "ci")
    assert len(chosen) == 30
    assert {library for library, _ in chosen} == set(surgery_models.LIBRARIES)
    assert surgery_models.chosen("timm", ["ghostnet_*"], None) == [("timm", "ghostnet_050")]


@pytest.mark.slow
def test_a_model_that_fails_and_one_that_takes_too_long_are_rows() -> None:
    (broken,) = surgery_coverage.run([("torchvision", "no_such_model")], jobs=1, timeout=100)
    assert broken["stage"] == "build"
    assert "no_such_model" in broken["error"]
    (late,) = surgery_coverage.run([("torchvision", "squeezenet1_1")], jobs=1, timeout=0)
    assert late["error"] == "not done after 0 s"
    assert "finished" not in late


@pytest.mark.slow
def test_a_small_model_gets_an_answer_in_every_column() -> None:
    answers: dict[str, object] = {}
    surgery_trial.trial("torchvision", "shufflenet_v2_x0_5", answers.__setitem__)
    assert answers["stage"] == "done"
    assert set(surgery_coverage.COLUMNS) <= set(answers)
    assert all(answers[column] is True for column in surgery_coverage.GOALS if column != "clean")
