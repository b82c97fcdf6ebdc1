"""Normalizations: which axis, how close, and what is left of them in real models."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery.operating.verify import difference
from surgery.rule_parts.channel_norm import ChannelBatchNorm, FixedBatchNorm
from surgery.rule_parts.norm_axis import norm_axis

NORMS = ["norm_to_batchnorm"]
UNWANTED = {"native_layer_norm", "native_group_norm", "_fused_rms_norm", "rms_norm", "rsqrt", "var", "var_mean", "std"}


def lite(model: nn.Module, x: Tensor, *rules: str) -> tuple[nn.Module, surgery.Report]:
    return surgery.lite(nn.Sequential(model), rules or NORMS, example_inputs=(x,))


class ChannelsFirst(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias).permute(0, 3, 1, 2)


class Written(nn.Module):
    """RMS over axis ``dim``; ``weight`` starts at zero, as some last layers of a block do."""

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(count))
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight if self.dim == -1 else self.weight[:, None, None]
        return x * torch.rsqrt(x.pow(2).mean(self.dim, keepdim=True) + 1e-6) * weight


class PlusOne(nn.Module):
    """No normalization, whatever its name says."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight


class OddNorm(PlusOne):
    pass


@pytest.mark.parametrize(
    ("layer", "axis"),
    [
        (nn.LayerNorm(6), -1),
        (nn.RMSNorm(6), -1),
        (nn.LayerNorm([3, 6]), None),
        (nn.GroupNorm(2, 6), 1),
        (nn.InstanceNorm2d(6), 1),
        (ChannelsFirst(6), 1),
        (ChannelsFirst(3), 1),  # as many channels as the tried images have rows
        (Written(6, -1), -1),
        (Written(6, 1), 1),
        (OddNorm(), None),
        (nn.BatchNorm2d(6), None),
        (nn.Conv2d(6, 6, 1), None),
        (nn.Identity(), None),
    ],
    ids=str,
)
def test_axis_is_found_by_what_a_layer_does(layer: nn.Module, axis: int | None) -> None:
    before = torch.random.get_rng_state()
    assert norm_axis(layer) == axis
    assert torch.equal(torch.random.get_rng_state(), before)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    count=st.integers(1, 5),
    axis=st.sampled_from([1, -1]),
    eps=st.sampled_from([1e-6, 1e-3]),
    affine=st.booleans(),
    training=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_batch_norm_over_an_axis_is_torchs_own_on_transposed_values(
    sizes: list[int], count: int, axis: int, eps: float, affine: bool, training: bool, dtype: torch.dtype
) -> None:
    shape = [3, *sizes, count] if axis == -1 else [3, count, *sizes]
    x = torch.randn(shape, dtype=dtype)
    mine = ChannelBatchNorm(count, eps, axis, affine).to(dtype).train(training)
    torchs = nn.BatchNorm1d(count, eps, affine=affine).to(dtype).train(training)
    for norm in (mine, torchs):
        torch.manual_seed(0)
        for tensor in norm.state_dict().values():
            if tensor.is_floating_point():
                nn.init.uniform_(tensor, 0.5, 1.5)
    found = mine(x)
    expected = torchs(x.movedim(axis, -1).reshape(-1, count)).reshape(x.movedim(axis, -1).shape).movedim(-1, axis)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(mine.state_dict(), torchs.state_dict())


@pytest.mark.parametrize(("axis", "shape"), [(-1, (1, 4)), (1, (1, 4)), (1, (1, 4, 1, 1)), (-1, (1, 1, 4))])
def test_one_value_per_channel_trains_on_running_statistics(axis: int, shape: tuple[int, ...]) -> None:
    layer = ChannelBatchNorm(4, axis=axis).train()
    nn.init.uniform_(layer.running_mean, -1, 1)
    before = {name: value.clone() for name, value in layer.named_buffers()}
    x = torch.randn(shape)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    torch.testing.assert_close(dict(layer.named_buffers()), before)
    torch.testing.assert_close(layer(x), layer.eval()(x))


def test_any_other_axis_is_an_error() -> None:
    with pytest.raises(ValueError, match="axis must be 1 or -1, not 2"):
        ChannelBatchNorm(4, axis=2)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    count=st.sampled_from([2, 4, 6]),
    kind=st.sampled_from(["layer", "plain layer", "rms", "group", "instance"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_shape_names_flags_and_dtype_stay(
    shape: tuple[int, int, int], count: int, kind: str, dtype: torch.dtype
) -> None:
    n, h, w = shape
    first = {"group": nn.GroupNorm(2, count), "instance": nn.InstanceNorm2d(count, affine=True)}
    last = {"layer": nn.LayerNorm(count), "plain layer": nn.LayerNorm(count, bias=False), "rms": nn.RMSNorm(count)}
    layer = (first | last)[kind].to(dtype)
    layer.weight.requires_grad_(False)
    x = torch.randn((n, count, h + 1, w) if kind in first else (n, h, w, count), dtype=dtype)
    model, report = surgery.lite(nn.Sequential(nn.Identity(), layer), NORMS, example_inputs=(x,))
    assert [edit.site for edit in report.edits] == ["1"]
    assert set(layer.state_dict()) <= set(model[1].state_dict())
    assert not model[1].weight.requires_grad
    y = model(x)
    assert (y.shape, y.dtype) == (x.shape, dtype)
    assert y.isfinite().all()


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 8), eps=st.sampled_from([1e-6, 1e-3]), build=st.sampled_from([nn.LayerNorm, nn.RMSNorm]))
def test_one_example_is_met_exactly(count: int, eps: float, build: Callable[..., nn.Module]) -> None:
    """Before a head there is one value per channel: the statistics of that sample make the same of it."""
    layer = build(count, eps=eps).double()
    nn.init.uniform_(layer.weight, 0.5, 2)
    x = torch.randn(1, count, dtype=torch.float64) + 1
    model, _ = lite(layer, x)
    torch.testing.assert_close(model(x), layer(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("calibrated", [False, True])
def test_measured_layer_is_the_closest_affine_one(calibrated: bool) -> None:
    layer = nn.LayerNorm(6).double().eval()
    x = torch.randn(64, 9, 6, dtype=torch.float64) * torch.tensor([0.1, 1, 2, 3, 1, 1]) + torch.arange(6)
    batches = list(x.split(16)) if calibrated else None
    model, _ = surgery.lite(nn.Sequential(layer), NORMS, example_inputs=(x,), calibration=batches)
    layer.requires_grad_(False)
    error = model.requires_grad_(False)(x) - layer(x)
    scale = float(layer(x).std())
    # The normal equations of least squares: what is left is unrelated to a constant and to x.
    assert float(error.mean((0, 1)).abs().max()) < 1e-3 * scale
    around_mean = x - x.mean((0, 1))
    unexplained = (error * around_mean).mean((0, 1)).abs() / around_mean.std((0, 1))
    assert float(unexplained.max()) < 2e-2 * scale
    carried_over = nn.BatchNorm1d(6).double().requires_grad_(False)(x.flatten(0, 1)).view_as(x) - layer(x)
    assert float(error.pow(2).mean()) < 0.5 * float(carried_over.pow(2).mean())


def test_statistics_of_one_value_per_channel_outlive_reestimation() -> None:
    layer = ChannelBatchNorm(4, axis=-1)
    nn.init.constant_(layer.running_mean, 3.0)
    surgery.reestimate_batchnorm(nn.Sequential(layer), [torch.randn(1, 4)])
    assert torch.equal(layer.running_mean, torch.full((4,), 3.0))
    surgery.reestimate_batchnorm(nn.Sequential(layer), [torch.ones(1, 4), torch.tensor([[1.0, 2, 3, 4], [3, 2, 1, 0]])])
    torch.testing.assert_close(layer.running_mean, torch.full((4,), 2.0))


def test_instance_norm_with_running_statistics_is_kept_to_the_bit() -> None:
    layer = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
    layer(torch.randn(8, 4, 5, 5))
    x = torch.randn(2, 4, 5, 5)
    model, _ = surgery.lite(nn.Sequential(layer, nn.ReLU()), NORMS, example_inputs=(x,))
    torch.testing.assert_close(model.eval()(x), layer.eval()(x).relu())


def test_several_axes_are_refused_where_channels_are_not_known() -> None:
    layer = nn.LayerNorm([3, 6])
    with pytest.raises(surgery.SurgeryError, match=r"over 2 axes \(3, 6\)"):
        lite(layer, torch.randn(2, 3, 6))


def test_works_without_example_inputs() -> None:
    model, report = surgery.lite(nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), ChannelsFirst(6)), NORMS)
    assert [edit.params["axis"] for edit in report.edits] == [-1, 1]
    assert isinstance(model[1], ChannelBatchNorm)


def test_affine_values_of_a_call_stay_the_models_own() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.gamma = nn.Linear(5, 6), nn.Parameter(torch.rand(6))

        def forward(self, x: Tensor) -> Tensor:
            return F.layer_norm(self.linear(x), (6,), weight=self.gamma)

    model, report = surgery.lite(Head(), ["norm_call_to_batchnorm"], example_inputs=(torch.randn(40, 5),))
    assert report.by_rule() == {"norm_call_to_batchnorm": 1}
    assert set(model.state_dict()) > set(Head().state_dict())
    y = model(torch.randn(7, 5))
    y.sum().backward()
    assert model.gamma.grad is not None
    x = torch.randn(4000, 5)
    torch.testing.assert_close(model.eval()(x).std(0), model.gamma, rtol=0.7, atol=0.05)  # measured, not 0 and 1


def test_frozen_batch_norm_of_torchvision() -> None:
    from torchvision.ops import FrozenBatchNorm2d

    frozen = FrozenBatchNorm2d(5, eps=1e-3).double()
    for buffer in frozen.buffers():
        nn.init.uniform_(buffer, 0.5, 2)
    x = torch.randn(2, 5, 4, 4, dtype=torch.float64)
    model, _ = lite(frozen, x, "frozen_batchnorm")
    assert isinstance(model[0], FixedBatchNorm)
    assert set(model[0].state_dict()) == set(frozen.state_dict())
    assert difference(frozen(x), model.train()(x)) <= 1e-12
    assert not {o.name for o in surgery.operators(model, (x,))} & {"rsqrt", "mul"}


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from([nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d]),
    groups=st.integers(1, 3),
    widths=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    settings_=st.fixed_dictionaries(
        {
            "kernel_size": st.integers(1, 3),
            "stride": st.integers(1, 2),
            "padding": st.integers(0, 1),
            "dilation": st.integers(1, 2),
            "bias": st.booleans(),
        }
    ),
    affine=st.booleans(),
)
def test_folding_is_exact(
    kind: type[nn.Conv2d], groups: int, widths: tuple[int, int], settings_: dict[str, int], affine: bool
) -> None:
    count = groups * widths[1]
    dims = int(kind.__name__[-2])
    conv = kind(groups * widths[0], count, groups=groups, **settings_)
    norm = (nn.BatchNorm1d if dims == 1 else nn.BatchNorm2d)(count, affine=affine)
    for tensor in norm.state_dict().values():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 2)
    model = nn.Sequential(conv, norm).double().eval()
    x = torch.randn(2, groups * widths[0], *[7] * dims, dtype=torch.float64)
    folded, report = surgery.lite(model, ["fold_batchnorm"], example_inputs=(x,))
    assert report.by_rule() == {"fold_batchnorm": 1}
    assert isinstance(folded[1], nn.Identity)
    assert difference(model(x), folded(x)) <= 1e-12
    folded(x).sum().backward()
    assert all(p.grad is not None for p in folded.parameters())


def test_every_batch_norm_of_mobilenet_is_folded() -> None:
    from torchvision.models import mobilenet_v2

    model = mobilenet_v2(width_mult=0.25).eval()
    x = torch.randn(1, 3, 32, 32)
    folded, report = surgery.lite(model, ["fold_batchnorm"], example_inputs=(x,))
    assert len(report.edits) == 52
    assert not report.refusals
    assert "native_batch_norm" not in {o.name for o in surgery.operators(folded, (x,))}
    assert difference(model(x), folded(x)) <= 1e-5


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda conv, norm: nn.Sequential(conv, nn.ReLU(), norm), "not the output of a convolution"),
        (lambda conv, norm: nn.Sequential(conv, norm, conv), "runs 2 times"),
        (lambda conv, norm: nn.Sequential(conv, norm, norm), "runs 2 times"),
        (lambda conv, norm: nn.Sequential(nn.Linear(4, 4), norm), "another axis"),
        (lambda conv, norm: nn.Sequential(conv, norm, tied(conv)), "are shared"),
    ],
)
def test_other_batch_norms_are_refused(build: Callable[..., nn.Module], reason: str) -> None:
    model = build(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    with pytest.raises(surgery.SurgeryError, match=reason):
        surgery.lite(model, ["fold_batchnorm"], example_inputs=(torch.randn(1, 4, 3, 4),))


def tied(conv: nn.Conv2d) -> nn.Conv2d:
    other = nn.Conv2d(4, 4, 1)
    other.weight = conv.weight
    return other


TIMM = {
    "vit_tiny_patch16_224": {"depth": 1, "img_size": 32, "qk_norm": True},
    "convnext_atto": {"depths": (1, 1, 1, 1)},
    "swin_tiny_patch4_window7_224": {"depths": (1, 2, 1, 1), "img_size": 32, "window_size": 4, "embed_dim": 24},
    "resnetv2_50d_evos": {"layers": (1, 1, 1, 1)},
    "resnetv2_50d_frn": {"layers": (1, 1, 1, 1)},
    "resnetv2_50d_gn": {"layers": (1, 1, 1, 1)},
    "mixer_s32_224": {"img_size": 32},
    "poolformer_s12": {},
}


@pytest.mark.parametrize("name", TIMM)
def test_no_norm_is_left_of_timm(name: str) -> None:
    timm = pytest.importorskip("timm")
    check_no_norm_is_left(timm.create_model(name, **TIMM[name]))


@pytest.mark.parametrize("name", ["convnext_tiny", "swin_t"])
def test_no_norm_is_left_of_torchvision(name: str) -> None:
    import torchvision

    check_no_norm_is_left(getattr(torchvision.models, name)())


def check_no_norm_is_left(model: nn.Module) -> None:
    x = torch.randn(2, 3, 32, 32)
    result, report = surgery.lite(model, NORMS, example_inputs=(x,))
    assert not report.refusals
    assert not UNWANTED & {operator.name for operator in surgery.operators(result, (x,))}
    assert result.eval()(x[:1].repeat(3, 1, 1, 1)).shape == model.eval()(x[:1].repeat(3, 1, 1, 1)).shape
    result.train()(x[:1]).sum().backward()
    again = surgery.replay(model, report.plan)
    again.load_state_dict(result.state_dict())
    assert torch.equal(again.eval()(x), result.eval()(x))


@pytest.mark.parametrize("hooked", [0, 1])
def test_a_hook_between_layer_and_norm_is_in_the_way(hooked: int) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)).eval()
    model[hooked].register_forward_hook(lambda module, args, out: out * 2)
    with pytest.raises(surgery.SurgeryError, match="has forward hooks"):
        surgery.lite(model, ["fold_batchnorm"], example_inputs=(torch.randn(2, 4, 3, 3),))


class FrozenNorm(nn.Module):
    """As detection libraries write it: constants first, one product and one sum."""

    def __init__(self, count: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(count) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


@settings(max_examples=10, deadline=None)
@given(
    count=st.integers(1, 6),
    eps=st.sampled_from([1e-5, 1e-3, 0.5]),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_frozen_batch_norms_written_out_are_exact(count: int, eps: float, shape: tuple[int, int, int], dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(count, count, 1), FrozenNorm(count, eps)).to(dtype).eval()
    batch, height, width = shape
    x = torch.randn(batch, count, height, width, dtype=dtype)
    result, report = surgery.lite(model, ["frozen_batchnorm"], example_inputs=(x,))
    assert report.by_rule() == {"frozen_batchnorm": 1}
    assert result.state_dict().keys() == model.state_dict().keys()
    y = torch.randn(batch + 1, count, height + 2, width, dtype=dtype)
    for value in (x, y):
        assert difference(model(value), result(value)) <= {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    result.train()(x).sum().backward()
    assert result[0].weight.grad.isfinite().all()
    assert torch.equal(surgery.replay(model, report.plan)(x), result.eval()(x))
