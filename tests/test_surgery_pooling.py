"""Pools become small ones without a change of their output, at every size."""

import json
import re

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.nn import functional as F

import surgery
from surgery.observing.operators import operators

EXACT = {torch.float64: 1e-12, torch.float32: 1e-5}
FEW = settings(max_examples=25, deadline=None)


class Calls(nn.Module):
    """One function call of another module's forward."""

    def __init__(self, function: object, *args: object, **kwargs: object) -> None:
        super().__init__()
        self.function, self.args, self.kwargs = function, args, kwargs

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.args, **self.kwargs)


def check(layer: nn.Module, rule: str, x: Tensor, *others: Tensor) -> nn.Module:
    """The lite model, after looking at outputs, gradients and replay."""
    model = nn.Sequential(layer).to(x.dtype)
    lite, report = surgery.lite(model, [rule], example_inputs=(x,))
    assert not report.refusals
    for value in (x, x[:1], *others):
        near(lite, model, value)
    plan = surgery.Plan.from_json(json.loads(json.dumps(report.plan.to_json())))
    assert torch.equal(surgery.replay(model, plan)(x), lite(x))
    assert set(lite.state_dict()) == set(model.state_dict())
    assert not list(lite.parameters())
    return lite


def near(lite: nn.Module, model: nn.Module, x: Tensor) -> None:
    was, now = (value.clone().requires_grad_() for value in (x, x))
    expected, found = model(was), lite(now)
    assert found.shape == expected.shape
    scale = expected.detach().abs().max().clamp_min(1e-30)
    assert (found - expected).abs().max() <= EXACT[x.dtype] * scale
    weights = torch.randn_like(expected)
    for output in (expected, found):
        (output * weights).sum().backward()
    assert (was.grad - now.grad).abs().max() <= 10 * EXACT[x.dtype] * was.grad.abs().max().clamp_min(1)


def friendly(lite: nn.Module, x: Tensor) -> None:
    """What really runs pools over at most 3x3 and adapts to nothing."""
    for operator in operators(lite, (x,)):
        assert not operator.name.startswith(("_adaptive", "adaptive")), operator
        if "pool2d" in operator.name:
            assert max(operator.attributes[0]) <= 3, operator
        if operator.name == "convolution":
            assert max(operator.inputs[1][2:]) <= 5, operator


sizes = st.tuples(st.integers(1, 19), st.integers(1, 19))
kernels = st.tuples(st.integers(1, 11), st.integers(1, 11)).filter(lambda k: max(k) > 3)
strides = st.tuples(st.integers(1, 6), st.integers(1, 6))


@FEW
@given(st.data(), sizes, kernels, strides, st.booleans(), st.sampled_from([*EXACT]))
def test_max_pool(data, size, kernel, stride, ceil_mode, dtype) -> None:
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    dilation = tuple(data.draw(st.integers(1, 2)) for _ in kernel)
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    assume(all(n + 2 * p >= k for n, p, k in zip(size, padding, extent, strict=True)))
    x = torch.randn(2, 3, *size, dtype=dtype)
    lite = check(nn.MaxPool2d(kernel, stride, padding, dilation, False, ceil_mode), "split_max_pool", x)
    friendly(lite, x)


@pytest.mark.parametrize("stride", [1, 2, 4, 5, 7])
@pytest.mark.parametrize("kernel", [4, 5, 8])
def test_max_pool_at_every_size(kernel: int, stride: int) -> None:
    """Ceil_mode reaches beyond the border by another amount at each size."""
    for padding in range(kernel // 2 + 1):
        pool = nn.Sequential(nn.MaxPool2d(kernel, stride, padding, 1, False, True))
        x = torch.randn(1, 1, 20, 20, dtype=torch.float64)
        lite, _ = surgery.lite(pool, ["split_max_pool"], example_inputs=(x,))
        for n in range(kernel, 20):
            assert torch.equal(lite(x[..., :n, :]), pool(x[..., :n, :]))


@FEW
@given(st.data(), sizes, kernels, strides, st.booleans(), st.booleans(), st.sampled_from([None, 3]))
def test_avg_pool(data, size, kernel, stride, ceil_mode, count_include_pad, divisor) -> None:
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    assume(all(n + 2 * p >= k for n, p, k in zip(size, padding, kernel, strict=True)))
    assume(size != kernel)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    larger = torch.randn(1, 3, size[0] + 3, size[1] + 2, dtype=torch.float64)
    pool = nn.AvgPool2d(kernel, stride, padding, ceil_mode, count_include_pad, divisor)
    friendly(check(pool, "split_avg_pool", x, larger), x)
    check(pool, "split_avg_pool", x.float())


@pytest.mark.parametrize(
    ("pool", "becomes"),
    [
        (nn.AvgPool2d(4, 2), "AvgPool2d + AvgPool2d"),
        (nn.AvgPool2d(6, 6, 1), "ZeroPad2d + AvgPool2d + AvgPool2d"),
        (nn.AvgPool2d(5, 1, 2), "FixedConv2d"),
        (nn.AvgPool2d(5, 1, 2, count_include_pad=False), "PoolProducts"),
        (nn.AvgPool2d(7, 2, 3), "PoolProducts"),
    ],
)
def test_the_cheapest_exact_form_is_taken(pool: nn.Module, becomes: str) -> None:
    _, report = surgery.lite(nn.Sequential(pool), ["split_avg_pool"], example_inputs=(torch.randn(1, 2, 14, 14),))
    assert report.edits[0].action == f"AvgPool2d -> {becomes}"


def test_a_constant_weight_is_no_parameter_and_follows_the_model() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AvgPool2d(5, 1, 2)).double()
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    lite, _ = surgery.lite(model, ["split_avg_pool"], example_inputs=(x,))
    weight = lite[1].get_buffer("weight")
    assert (weight.dtype, tuple(weight.shape)) == (torch.float64, (4, 1, 5, 5))
    lite.load_state_dict(model.state_dict())
    assert lite.float()(x.float()).dtype == torch.float32


output_sizes = st.tuples(*[st.none() | st.integers(1, 9)] * 2).filter(lambda size: size != (1, 1))


@FEW
@given(sizes, sizes, output_sizes, st.sampled_from(["avg", "max"]), st.booleans(), st.sampled_from([*EXACT]))
def test_adaptive_pool(size, other, output_size, kind, as_call, dtype) -> None:
    """Made at one size, equal at another."""
    rule = f"adaptive_{kind}_pool_to_plain"
    function = {"avg": F.adaptive_avg_pool2d, "max": F.adaptive_max_pool2d}[kind]
    module = {"avg": nn.AdaptiveAvgPool2d, "max": nn.AdaptiveMaxPool2d}[kind]
    x, y = (torch.randn(2, 3, *s, dtype=dtype) for s in (size, other))
    lite = check(Calls(function, output_size) if as_call else module(output_size), rule, x, y)
    friendly(lite, x)


def test_regular_bins_are_plain_pools() -> None:
    model = nn.Sequential(nn.AdaptiveAvgPool2d(7))
    lite, _ = surgery.lite(model, example_inputs=(torch.randn(1, 2, 28, 28),))
    names = [operator.name for operator in operators(lite, (torch.randn(1, 2, 28, 28),))]
    assert names == ["avg_pool2d", "avg_pool2d"]
    assert [o.name for o in operators(lite, (torch.randn(1, 2, 7, 7),))] == ["clone"]


@pytest.mark.parametrize(
    "layer",
    [
        nn.AvgPool2d(3, 2, 1),
        nn.MaxPool2d(3, 2, 1),
        nn.AvgPool2d(12),
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveMaxPool2d((1, 1)),
        Calls(lambda x: F.avg_pool2d(x, x.shape[2:])),
        Calls(lambda x: F.max_pool2d(x, 2) + F.avg_pool2d(x, 3, 2, 1)),
        Calls(lambda x: 0.5 * (F.adaptive_avg_pool2d(x, 1) + F.adaptive_max_pool2d(x, 1))),
    ],
)
def test_small_and_global_pools_are_left_without_a_word(layer: nn.Module) -> None:
    _, report = surgery.lite(nn.Sequential(layer), example_inputs=(torch.randn(2, 3, 12, 12),))
    assert not report.is_lite
    assert not report.refusals


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Calls(lambda x: F.max_pool2d(x, 5, return_indices=True)[0]), "indices are asked for"),
        (Calls(lambda x: F.adaptive_max_pool2d(x, 5, return_indices=True)[0]), "indices are asked for"),
        (Calls(lambda x: F.max_pool2d(x, x.shape[-1] // 2)), "kernel_size of .* is computed when the model runs"),
    ],
)
def test_what_cannot_be_done_says_why(layer: nn.Module, reason: str) -> None:
    _, report = surgery.lite(nn.Sequential(layer), example_inputs=(torch.randn(2, 3, 12, 12),))
    assert not report.is_lite
    assert len(report.refusals) == 1
    assert re.search(reason, report.refusals[0].reason)


def test_unpooling_keeps_its_indices() -> None:
    pool = nn.Sequential(nn.MaxPool2d(4, return_indices=True))
    _, report = surgery.lite(pool, example_inputs=(torch.randn(1, 2, 8, 8),))
    assert "indices" in report.refusals[0].reason


def test_without_example_inputs() -> None:
    model = nn.Sequential(nn.MaxPool2d(5, 1, 2), nn.AdaptiveAvgPool2d(7), nn.AvgPool2d(7))
    lite, report = surgery.lite(model)
    assert [edit.site for edit in report.edits] == ["1", "0"]
    assert [(r.site, "without example inputs" in r.reason) for r in report.refusals] == [("2", True)]
    x = torch.randn(1, 2, 9, 9)
    assert torch.allclose(lite(x), model(x), atol=1e-6)


@pytest.mark.parametrize("size", [(13, 17), (8, 8), (6, 5)])
@pytest.mark.parametrize(("kernel", "stride"), [(5, 2), (4, 4), (6, 3)])
def test_pools_with_tensorflow_padding(size: tuple[int, int], kernel: int, stride: int) -> None:
    layers = pytest.importorskip("timm.layers.pool2d_same")
    x, y = (torch.randn(2, 3, *s, dtype=torch.float64) for s in (size, (11, 10)))
    friendly(check(layers.MaxPool2dSame(kernel, stride), "split_max_pool", x, y), x)
    friendly(check(layers.AvgPool2dSame(kernel, stride), "split_avg_pool", x, y), x)


@pytest.mark.parametrize("pool_type", ["avg", "max", "avgmax", "catavgmax"])
def test_mixed_pools(pool_type: str) -> None:
    layers = pytest.importorskip("timm.layers")
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    model = nn.Sequential(layers.SelectAdaptivePool2d((4, 3), pool_type=pool_type)).double()
    lite, report = surgery.lite(model, example_inputs=(x,))
    assert report.is_lite
    assert not report.refusals
    friendly(lite, x)
    near(lite, model, x)
    whole = nn.Sequential(layers.SelectAdaptivePool2d(1, pool_type=pool_type))
    assert not surgery.lite(whole, example_inputs=(x,))[1].is_lite


@pytest.mark.parametrize("pad_mode", ["reflect", "replicate", "circular", "constant"])
@pytest.mark.parametrize("channels", [None, 3])
@pytest.mark.parametrize("filt_size", [3, 4, 5])
def test_blur_pools(channels: int | None, pad_mode: str, filt_size: int) -> None:
    layers = pytest.importorskip("timm.layers")
    x, y = torch.randn(2, 3, 9, 12, dtype=torch.float64), torch.randn(1, 3, 8, 7, dtype=torch.float64)
    blur = layers.BlurPool2d(channels, filt_size, pad_mode=pad_mode)
    lite = check(blur, "plain_blur_pool", x, y)
    assert [o.name for o in operators(lite, (x,))][-1] == "convolution"


def test_export_and_compile() -> None:
    model = nn.Sequential(nn.MaxPool2d(5, 2, 2, ceil_mode=True), nn.AvgPool2d(5, 1, 2, count_include_pad=False))
    model.append(nn.AdaptiveAvgPool2d((5, 3))).append(nn.AdaptiveMaxPool2d((3, 2)))
    x = torch.randn(2, 3, 16, 15)
    lite, report = surgery.lite(model.eval(), example_inputs=(x,))
    assert len(report.edits) == 4
    assert not surgery.lite(lite, example_inputs=(x,))[1].is_lite, "again changes nothing more"
    assert torch.equal(fx.symbolic_trace(lite)(x), lite(x))
    exported = torch.export.export(lite, (x,)).module()
    for other in (exported, torch.compile(lite, backend="eager")):
        assert torch.allclose(other(x), model(x), atol=1e-6)


def test_a_pool_that_is_used_with_several_channel_counts_and_precisions() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AvgPool2d(5, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(x)[:, :2] + self.pool(x[:, :2])

    x = torch.randn(2, 4, 8, 8)
    lite, report = surgery.lite(nn.Sequential(Twice()), ["split_avg_pool"], example_inputs=(x,))
    assert report.is_lite
    assert not report.refusals
    near(lite, nn.Sequential(Twice()), x)
    for other in (x.double(), x[0].half(), torch.randn(1, 7, 6, 9)):
        assert torch.allclose(lite[0].pool(other), F.avg_pool2d(other, 5, 1), atol=1e-3)
        assert lite[0].pool(other).dtype == other.dtype
    exported = torch.export.export(lite, (x,)).module()
    assert torch.allclose(exported(x), lite(x))


@FEW
@given(st.data(), st.integers(1, 30), st.integers(1, 7), st.integers(1, 5), st.booleans(), st.booleans())
def test_pools_over_a_sequence_are_pools_over_a_row(data, length, kernel, stride, ceil_mode, count_include_pad) -> None:
    padding = data.draw(st.integers(0, kernel // 2))
    assume(length + 2 * padding >= kernel)
    pool = nn.AvgPool1d(kernel, stride, padding, ceil_mode, count_include_pad)
    x = torch.randn(2, 3, length, dtype=torch.float64)
    lite = check(pool, "avg_pool1d_to_row", x, torch.randn(3, length + 4, dtype=torch.float64))
    assert not any(operator.name == "avg_pool1d" for operator in operators(lite, (x,)))


@FEW
@given(sizes, st.sampled_from(["reflect", "replicate", "constant"]), st.booleans(), st.integers(1, 3))
def test_blur_pools_are_plain(size, mode, known, stride) -> None:
    timm = pytest.importorskip("timm.layers")
    assume(min(size) > 3)
    layer = timm.BlurPool2d(3 if known else None, filt_size=3, stride=stride, pad_mode=mode)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    others = [] if known else [torch.randn(1, 5, *size, dtype=torch.float64)]
    check(layer, "plain_blur_pool", x, *others)
