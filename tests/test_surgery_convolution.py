"""Convolutions rewritten exactly: any kernel, stride, padding, dilation, groups and padding mode, at any image size."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery.operating.verify import difference

# torch says so about the layer that is replaced.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
TIGHT = {torch.float32: 1e-5, torch.float64: 1e-12}
SIDES = st.tuples(st.integers(9, 22), st.integers(9, 22))


def rewritten(rule: str, model: nn.Module, x: Tensor) -> nn.Module:
    """The model after one rule, which must edit its only layer; replayed from its plan it is the same."""
    lite, report = surgery.lite(model, [rule], example_inputs=(x,))
    assert [edit.site for edit in report.edits] == ["0"]
    assert not report.refusals
    again = surgery.replay(model, report.plan)
    assert torch.equal(again(x), lite(x))
    return lite


def assert_same_function(rule: str, layer: nn.Module, size: tuple[int, int], other: tuple[int, int]) -> nn.Module:
    """The same output as the layer's in both precisions, at two image sizes; gradients reach every parameter."""
    channels = layer.in_channels
    for dtype, tolerance in TIGHT.items():
        model = nn.Sequential(layer).to(dtype).eval()
        x, y = torch.randn(2, channels, *size, dtype=dtype), torch.randn(3, channels, *other, dtype=dtype)
        lite = rewritten(rule, model, x)
        for value in (x, y):
            assert lite(value).shape == model(value).shape
            assert difference(model(value), lite(value)) <= tolerance
    lite.train()(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in lite.parameters())
    return lite


def kernels(module: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(m.kernel_size) for m in module.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]


@st.composite
def convolutions(
    draw: st.DrawFn,
    taps: st.SearchStrategy[int],
    modes: tuple[str, ...] = ("zeros", "reflect", "replicate", "circular"),
) -> nn.Conv2d:
    """Any Conv2d with those kernel sides that an image of 9x9 or more fits; no reflection beyond the image."""
    kernel = draw(st.tuples(taps, taps))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    stride: int | tuple[int, int] = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    mode = draw(st.sampled_from(modes))
    padding: str | tuple[int, int]
    if draw(st.booleans()) and stride == (1, 1):
        padding = "same"
        assume(mode in {"zeros", "replicate"} or max(reach) <= 12)
    else:
        padding = draw(st.tuples(*(st.integers(max(0, (r - 7) // 2), max(5, r // 2 + 1)) for r in reach)))
        assume(mode in {"zeros", "replicate"} or max(padding) <= 7)
    groups = draw(st.sampled_from([1, 2, 4]))
    out = draw(st.sampled_from([4, 8]))
    bias = draw(st.booleans())
    return nn.Conv2d(4, out, kernel, stride, padding, dilation, groups, bias, mode)


@settings(max_examples=40, deadline=None)
@given(convolutions(st.integers(1, 13)), SIDES, SIDES)
def test_large_kernels_are_sums(layer: nn.Conv2d, size: tuple[int, int], other: tuple[int, int]) -> None:
    assume(max(layer.kernel_size) > 5 and layer.kernel_size != layer.stride)
    lite = assert_same_function("split_large_kernel", layer, size, other)
    assert max(max(kernel) for kernel in kernels(lite)) <= 5
    assert sum(m.bias is not None for m in lite.modules() if isinstance(m, nn.Conv2d)) == (layer.bias is not None)


class Call(nn.Module):
    """The call that a layer makes, by position or by name."""

    def __init__(self, layer: nn.Conv2d, named: bool) -> None:
        super().__init__()
        self.weight, self.bias, self.in_channels = layer.weight, layer.bias, layer.in_channels
        names = ("stride", "padding", "dilation", "groups")
        self.settings, self.named = {name: getattr(layer, name) for name in names}, named

    def forward(self, x: Tensor) -> Tensor:
        if self.named:
            return F.conv2d(x, weight=self.weight, bias=self.bias, **self.settings)
        return torch.conv2d(x, self.weight, self.bias, *self.settings.values())


@settings(max_examples=15, deadline=None)
@given(convolutions(st.integers(1, 13), modes=("zeros",)), st.booleans(), SIDES, SIDES)
def test_large_kernels_in_calls_are_sums(
    layer: nn.Conv2d, named: bool, size: tuple[int, int], other: tuple[int, int]
) -> None:
    assume(max(layer.kernel_size) > 5 and layer.kernel_size != layer.stride)
    lite = assert_same_function("split_large_kernel_calls", Call(layer, named), size, other)
    ran = surgery.operators(lite, (torch.zeros(1, 4, *size, dtype=torch.float64),))
    kernels = [o.inputs[1][2:] for o in ran if o.name == "convolution"]
    assert max(max(kernel) for kernel in kernels) <= 5
    assert lite.state_dict().keys() == nn.Sequential(Call(layer, named)).state_dict().keys()
    assert surgery.lite(nn.Sequential(Call(layer, named)), ["split_large_kernel_calls"])[1].is_lite, "without inputs"


@settings(max_examples=40, deadline=None)
@given(convolutions(st.integers(1, 6)), SIDES, SIDES)
def test_even_kernels_become_odd(layer: nn.Conv2d, size: tuple[int, int], other: tuple[int, int]) -> None:
    assume(any(n % 2 == 0 for n in layer.kernel_size) and layer.kernel_size != layer.stride)
    lite = assert_same_function("even_kernel_to_odd", layer, size, other)
    assert all(n % 2 for kernel in kernels(lite) for n in kernel)


@st.composite
def transposed(draw: st.DrawFn) -> nn.ConvTranspose2d:
    pairs = [draw(st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 3))) for _ in range(2)]
    (kernel, stride, dilation) = zip(*pairs, strict=True)
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    padding = draw(st.tuples(*(st.integers(0, r + 1) for r in reach)))
    extra = draw(st.tuples(*(st.integers(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True))))
    groups, bias = draw(st.sampled_from([1, 2, 4])), draw(st.booleans())
    return nn.ConvTranspose2d(4, draw(st.sampled_from([4, 8])), kernel, stride, padding, extra, groups, bias, dilation)


@settings(max_examples=40, deadline=None)
@given(transposed(), st.tuples(st.integers(4, 7), st.integers(4, 7)), st.tuples(st.integers(4, 7), st.integers(4, 7)))
def test_transposed_convolutions(layer: nn.ConvTranspose2d, size: tuple[int, int], other: tuple[int, int]) -> None:
    friendly = layer.kernel_size in {(2, 2), (3, 3), (4, 4)} and layer.stride == (2, 2) and layer.dilation == (1, 1)
    assume(not friendly)
    for side in (*size, *other):
        for axis in range(2):
            reach = layer.dilation[axis] * (layer.kernel_size[axis] - 1) + layer.output_padding[axis]
            assume((side - 1) * layer.stride[axis] - 2 * layer.padding[axis] + reach + 1 > 0)
    lite = assert_same_function("transposed_to_friendly", layer, size, other)
    assert not [m for m in lite.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert "pixel_shuffle" not in {o.name for o in surgery.operators(lite, (torch.zeros(1, 4, *size, dtype=float),))}


@settings(max_examples=40, deadline=None)
@given(convolutions(st.integers(1, 13)), SIDES, SIDES)
def test_a_series_has_the_large_kernel_s_shape(layer: nn.Conv2d, size: tuple[int, int], other: tuple[int, int]) -> None:
    assume(max(layer.kernel_size) > 5 and layer.kernel_size != layer.stride)
    model = nn.Sequential(layer).eval()
    x, y = torch.randn(2, 4, *size), torch.randn(3, 4, *other)
    lite = rewritten("large_kernel_series", model, x)
    assert lite(x).shape == model(x).shape
    assert lite(y).shape == model(y).shape
    found = kernels(lite)
    for axis in range(2):
        taps = layer.kernel_size[axis]
        seen = 1 + sum(kernel[axis] - 1 for kernel in found)
        assert seen == (taps if taps <= 5 or taps % 2 else taps + 1)
    lite.train()(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in lite.parameters())


def test_a_series_starts_as_the_large_kernel_s_middle() -> None:
    torch.manual_seed(0)
    for taps, padding in ((7, 3), (9, 4), (6, 2)):
        layer = nn.Conv2d(4, 8, taps, 2, padding).double().eval()
        with torch.no_grad():
            ring = torch.ones(taps, taps, dtype=torch.bool)
            skip = (taps + 1 - 5) // 2
            ring[skip : skip + 5, skip : skip + 5] = False
            layer.weight[:, :, ring] = 0
        x = torch.randn(2, 4, 15, 16).double()
        lite = rewritten("large_kernel_series", nn.Sequential(layer), x)
        expected, found = layer(x), lite(x)
        assert difference(expected[..., 2:-2, 2:-2], found[..., 2:-2, 2:-2]) < 1e-12, "the border may differ"


@pytest.mark.parametrize("taps", range(6, 40))
def test_tiles_cover_every_tap_once(taps: int) -> None:
    from surgery.rule_parts.tiles import tiles

    pieces = tiles(taps)
    assert [p.start + p.taken for p in pieces] == [0, *(p.start + p.size for p in pieces[:-1])]
    assert pieces[-1].start + pieces[-1].size == taps
    assert len(pieces) == -(-taps // 5)
    assert {p.size for p in pieces} <= {3, 5}
    assert all(a.start < b.start for a, b in pairwise(pieces))


class Standardised(nn.Conv2d):
    """Weight standardisation by way of a batch norm, with a gain, as NFNets do."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.linspace(0.5, 2, self.out_channels))

    def used(self) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        return F.batch_norm(flat, None, None, self.gain, training=True, eps=1e-6).reshape_as(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.used(), self.bias)


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    out = math.ceil(size / stride)
    total = max((out - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


class StandardisedSame(Standardised):
    """The same with TensorFlow's padding, which depends on the image's size where there is a stride."""

    def weight_and_input(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pad = [same_padding(x.shape[a + 2], self.kernel_size[a], self.stride[a], self.dilation[a]) for a in range(2)]
        return self.used(), F.pad(x, (*pad[1], *pad[0]))

    def forward(self, x: Tensor) -> Tensor:
        weight, x = self.weight_and_input(x)
        return F.conv2d(x, weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Same(StandardisedSame):
    def used(self) -> Tensor:
        return self.weight


SMALL = st.tuples(st.integers(1, 5), st.integers(1, 5))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([Standardised, StandardisedSame]),
    SMALL,
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 2),
    st.sampled_from([1, 2, 4]),
    st.integers(0, 2),
    st.booleans(),
    SIDES,
    SIDES,
)
def test_computed_weights_are_stored(
    kind: type[Standardised],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: int,
    groups: int,
    padding: int,
    bias: bool,
    size: tuple[int, int],
    other: tuple[int, int],
) -> None:
    assume(kernel != (1, 1))
    padding = 0 if kind is StandardisedSame else padding
    layer = kind(4, 8, kernel, stride, padding, dilation, groups, bias)
    lite = assert_same_function("fold_computed_weights", layer, size, other)
    (conv,) = (m for m in lite.modules() if isinstance(m, nn.Conv2d))
    assert type(conv) is nn.Conv2d
    assert [name for name, _ in conv.named_parameters()] == (["weight", "bias"] if bias else ["weight"])


def test_padding_that_is_the_same_for_every_size_is_the_layer_s_own() -> None:
    lite = assert_same_function("fold_computed_weights", Same(4, 8, 3, bias=False), (9, 9), (10, 12))
    assert repr(lite[0]).count("padding=(1, 1)") == 1
    lite = assert_same_function("fold_computed_weights", Same(4, 8, 7, 2), (9, 9), (10, 12))
    assert [type(m).__name__ for m in lite[0]] == ["SamePad2d", "Conv2d"], "so that the kernel can be split"
    with pytest.raises(surgery.SurgeryError, match="it matches no layer"):
        surgery.lite(nn.Sequential(Same(4, 8, 3, 2)), ["fold_computed_weights"], torch.randn(1, 4, 9, 9))


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "wrap",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.parametrizations.orthogonal,
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
    ],
)
@pytest.mark.parametrize("frozen", [False, True])
def test_torch_s_reparametrisations_are_stored(wrap: Callable[[nn.Module], nn.Module], frozen: bool) -> None:
    model = nn.Sequential(wrap(nn.Conv2d(4, 8, 3)), nn.Flatten(), wrap(nn.Linear(72, 3))).requires_grad_(not frozen)
    x = torch.randn(2, 4, 5, 5)
    model.train()(x)  # spectral norm estimates as it goes
    lite, report = surgery.lite(model.eval(), ["fold_computed_weights"], example_inputs=(x,))
    assert [edit.site for edit in report.edits] == ["0", "2"]
    assert [name for name, _ in lite.named_parameters()] == ["0.bias", "0.weight", "2.bias", "2.weight"]
    assert all(type(layer) in {nn.Conv2d, nn.Flatten, nn.Linear} for layer in lite)
    assert {p.requires_grad for p in lite.parameters()} == {not frozen}
    assert difference(model(x), lite(x)) <= 1e-6
    assert difference(model(x), model(x)) == 0, "the source still computes its weights"
    assert not lite[0]._forward_pre_hooks


class Modulated(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight * x.mean(), self.bias)


class Doubled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(2 * x)


class Twice(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + super().forward(x)


class Picky(nn.Conv2d):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(x) * mask


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Modulated, "its weight depends on its input"),
        (Doubled, "changes its input in other ways"),
        (Twice, "more than one call with a weight"),
        (Picky, "cannot be looked into: TypeError"),
    ],
)
def test_what_cannot_be_stored_is_a_refusal(kind: type[nn.Conv2d], reason: str) -> None:
    with pytest.raises(surgery.SurgeryError, match=reason):
        surgery.lite(nn.Sequential(kind(4, 4, 3)), ["fold_computed_weights"])


def test_tied_weights_are_left_tied() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 7, padding=3), nn.Conv2d(4, 4, 7, padding=3))
    model[1].weight = model[0].weight
    with pytest.raises(surgery.SurgeryError, match="its weight is tied to that of 1"):
        surgery.lite(model, ["split_large_kernel"])


def test_shared_layers_stay_shared_and_settings_stay() -> None:
    conv = nn.Conv2d(4, 4, 7, padding=3).to(memory_format=torch.channels_last)
    conv.weight.requires_grad_(False)
    model = nn.Sequential(conv, nn.ReLU(), conv)
    lite, report = surgery.lite(model, ["split_large_kernel"])
    assert [edit.site for edit in report.edits] == ["0"]
    assert lite[0] is lite[2]
    parts = [m for m in lite.modules() if isinstance(m, nn.Conv2d)]
    assert all(part.weight.is_contiguous(memory_format=torch.channels_last) for part in parts)
    assert not any(part.weight.requires_grad for part in parts)
    assert lite[0].parts[0][1].bias.requires_grad


SETTINGS = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 8, 7, 2, 3, groups=2),
        nn.Conv2d(4, 4, 9, padding="same", padding_mode="reflect"),
        nn.ConvTranspose2d(4, 6, 8, 4, 2),
    ],
)
def test_what_stands_for_a_convolution_tells_its_settings(layer: nn.Module) -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)

        def reach(self) -> list[object]:
            return [getattr(self.conv, name) for name in SETTINGS]

    x = torch.randn(1, 4, 12, 12)
    model = nn.Sequential(Reads())
    lite, report = surgery.lite(model, example_inputs=(x,))
    assert report.is_lite
    assert not isinstance(lite[0].conv, nn.Conv2d | nn.ConvTranspose2d)
    again = surgery.replay(model, report.plan)
    assert lite[0].reach() == again[0].reach() == model[0].reach()


@pytest.mark.parametrize("settings", [{"kernel_size": 8, "stride": 4, "padding": 2}, {"kernel_size": 3, "padding": 1}])
def test_transposed_convolutions_take_one_image_without_a_batch(settings: dict[str, Any]) -> None:
    model = nn.Sequential(nn.ConvTranspose2d(4, 6, **settings)).double()
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    lite, _ = surgery.lite(model, ["transposed_to_friendly"], example_inputs=(x,))
    assert difference(model(x), lite(x)) <= 1e-12
    assert lite(x[0]).shape == model(x[0]).shape
    assert difference(model(x[0]), lite(x[0])) <= 1e-12


class TimesTwo(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def test_stored_weights_are_trained_frozen_or_buffers_as_they_were() -> None:
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1))
    conv.parametrizations.weight.requires_grad_(False)
    old = nn.utils.spectral_norm(nn.Conv2d(4, 4, 1))
    old.weight_orig.requires_grad_(False)
    norm = nn.BatchNorm2d(4)
    nn.utils.parametrize.register_parametrization(norm, "running_mean", TimesTwo())
    model = nn.Sequential(conv, old, norm).eval()
    x = torch.randn(2, 4, 3, 3)
    lite, report = surgery.lite(model, ["fold_computed_weights"], example_inputs=(x,))
    assert len(report.edits) == 3
    assert [layer.weight.requires_grad for layer in lite] == [False, False, True]
    assert all(layer.bias.requires_grad for layer in lite)
    assert "running_mean" in dict(lite[2].named_buffers())
    assert torch.allclose(lite(x), model(x), atol=1e-6)


@pytest.mark.parametrize("computes", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
def test_a_large_kernel_that_is_computed_names_the_rule_that_stores_it(
    computes: Callable[[nn.Module], nn.Module],
) -> None:
    model, x = nn.Sequential(computes(nn.Conv2d(4, 4, 7, padding=3))).eval(), torch.randn(1, 4, 9, 9)
    with pytest.raises(surgery.SurgeryError, match="weight or padding; fold_computed_weights first"):
        surgery.lite(model, ["split_large_kernel"], x)
    lite, report = surgery.lite(model, ["split_large_kernel", "fold_computed_weights"], x)
    assert torch.allclose(lite(x), model(x), atol=1e-5)
    assert not report.refusals
