"""Stems that gather blocks of pixels become one strided convolution, however they are written."""

from collections.abc import Callable, Sequence
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery.operating.verify import difference

TIGHT = {torch.float32: 1e-5, torch.float64: 1e-12}
SHIFTS = [(0, 0), (1, 0), (0, 1), (1, 1)]


class ConvNormAct(nn.Module):
    def __init__(self, channels: int, kernel: int, padding: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 6, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Focus(nn.Module):
    """Slices in any order, as YOLOv5 and YOLOX write it."""

    def __init__(self, kernel: int = 3, padding: int = 1, stride: int = 1, shifts: Sequence[tuple[int, int]] = SHIFTS):
        super().__init__()
        self.conv, self.shifts = ConvNormAct(12, kernel, padding, stride), shifts

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.cat([x[..., i::2, j::2] for i, j in self.shifts], dim=1))


class Blocks(nn.Module):
    """A module of views, block rows first, as TResNet writes it; reads its sizes from the input."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.size()
        x = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).contiguous()
        return x.view(n, c * 4, h // 2, w // 2)


class Unshuffled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = ConvNormAct(12, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pixel_unshuffle(x, 2))


class Reshaped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = ConvNormAct(12, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
        return self.conv(x.reshape(b, -1, h // 2, w // 2))


def settled(model: nn.Module) -> nn.Module:
    """BatchNorm with statistics that do something."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


def one_convolution(model: nn.Module, conv: str, rules: Sequence[str] = ("focus_to_conv",)) -> nn.Module:
    for dtype, tolerance in TIGHT.items():
        model = settled(model.to(dtype))
        x, y = torch.randn(2, 3, 12, 16, dtype=dtype), torch.randn(3, 3, 18, 10, dtype=dtype)
        lite, report = surgery.lite(model, rules, example_inputs=(x,))
        assert not report.refusals
        for value in (x, y):
            assert difference(model(value), lite(value)) <= tolerance
        again = surgery.replay(model, report.plan)
        assert torch.equal(again(x), lite(x))
    assert lite.get_submodule(conv).in_channels == 3
    assert not {"cat", "permute", "pixel_unshuffle"} & {o.name for o in surgery.operators(lite, (x,))}
    lite.train()(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in lite.parameters())
    return lite


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(list(permutations(SHIFTS))), st.sampled_from([1, 2, 3, 5]), st.integers(0, 2), st.integers(1, 2))
def test_focus_in_any_order(shifts: Sequence[tuple[int, int]], kernel: int, padding: int, stride: int) -> None:
    lite = one_convolution(nn.Sequential(Focus(kernel, padding, stride, shifts)), "0.conv.conv")
    conv = lite[0].conv.conv
    assert type(lite[0]).__name__ == "Focus"
    assert (conv.kernel_size, conv.stride) == ((2 * kernel,) * 2, (2 * stride,) * 2)


@pytest.mark.parametrize(
    ("build", "conv"),
    [
        (Focus, "conv.conv"),
        (lambda: nn.Sequential(nn.PixelUnshuffle(2), ConvNormAct(12, 3, 1, 1)), "1.conv"),
        (lambda: nn.Sequential(Blocks(), ConvNormAct(12, 3, 1, 1)), "1.conv"),
        (lambda: nn.Sequential(nn.Sequential(Blocks()), nn.Sequential(ConvNormAct(12, 1, 0, 2))), "1.0.conv"),
        (Unshuffled, "conv.conv"),
        (Reshaped, "conv.conv"),
    ],
)
def test_every_way_to_write_it(build: Callable[[], nn.Module], conv: str) -> None:
    one_convolution(build(), conv)


def test_the_large_kernel_is_split_after() -> None:
    model = settled(nn.Sequential(Focus(), nn.Conv2d(6, 4, 7, 4, 3)))
    x = torch.randn(2, 3, 24, 32)
    lite, report = surgery.lite(model, example_inputs=(x,))
    assert {(e.rule, e.site) for e in report.edits} >= {
        ("focus_to_conv", "0"),
        ("split_large_kernel", "0.conv.conv"),
        ("split_large_kernel", "1"),
    }
    assert max(max(m.kernel_size) for m in lite.modules() if isinstance(m, nn.Conv2d)) <= 5
    assert difference(model(x), lite(x)) <= 1e-5


class ReadTwice(Focus):
    def forward(self, x: Tensor) -> Tensor:
        blocks = F.pixel_unshuffle(x, 2)
        return self.conv(blocks).mean(1, keepdim=True) + blocks


class NotAll(Focus):
    """One shift twice: no rearrangement."""

    def __init__(self) -> None:
        super().__init__(shifts=[(0, 0), (0, 0), (1, 0), (1, 1)])


class Circular(Focus):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.conv.conv = nn.Conv2d(12, 6, 3, padding=1, padding_mode=mode)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (ReadTwice, "it matches no layer"),
        (NotAll, "how it gathers blocks of pixels is not known"),
        (lambda: Circular("reflect"), "pads with values of the image"),
        (lambda: nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, 8, 3, padding=1)), "a kernel of 12x12 would cost"),
        (lambda: nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 8, 3, dilation=2)), "has groups or dilation"),
    ],
)
def test_what_is_left_has_its_reason(build: Callable[[], nn.Module], reason: str) -> None:
    with pytest.raises(surgery.SurgeryError, match=reason):
        surgery.lite(build(), ["focus_to_conv"], example_inputs=(torch.randn(1, 3, 24, 24),))


def test_circular_padding_goes_around_the_image() -> None:
    one_convolution(Circular("circular"), "conv.conv.1")


def test_without_inputs_it_is_a_refusal() -> None:
    model = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 8, 3))
    with pytest.raises(surgery.SurgeryError, match="without example inputs it is not known what reads the blocks"):
        surgery.lite(model, ["focus_to_conv"])
