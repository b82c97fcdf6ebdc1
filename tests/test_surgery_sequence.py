"""Layers over a sequence: the same function as layers over one row, in whatever settings."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import surgery
from surgery.observing.unfriendly import unfriendly
from surgery.rules.sequence import RowLayer

small = st.integers(1, 3)


def tokens(length: int) -> Tensor:
    return torch.randn(2, 4, length, dtype=torch.float64, generator=torch.Generator().manual_seed(length))


def assert_same(layer: nn.Module, length: int) -> None:
    x, other = tokens(length), tokens(length + 5)
    model = nn.Sequential(nn.Conv1d(4, 4, 1), layer).double().eval()
    lite, report = surgery.lite(model, example_inputs=x)
    assert report.by_rule().get("sequence_to_row") == 1
    assert not unfriendly(lite, (x,))
    for given_ in (x, other, x[0]):
        expected = model(given_)
        assert torch.allclose(lite(given_), expected, rtol=1e-12, atol=1e-12)
    lite.train()(x).square().sum().backward()
    assert all(parameter.grad is not None for parameter in lite.parameters())
    again = surgery.replay(model, surgery.Plan.from_json(report.plan.to_json()))
    assert torch.equal(again.eval()(x), lite.eval()(x))


@settings(max_examples=25, deadline=None)
@given(st.integers(6, 17), small, small, st.sampled_from([1, 2, 4]), st.booleans(), st.integers(0, 9))
def test_convolutions(taps: int, stride: int, dilation: int, groups: int, bias: bool, padding: int) -> None:
    layer = nn.Conv1d(4, 8, taps, stride, padding, dilation, groups, bias)
    assert_same(layer, dilation * (taps - 1) + 3)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), small, st.sampled_from([1, 2, 4]), st.booleans(), st.data())
def test_transposed_convolutions(
    taps: int, stride: int, dilation: int, groups: int, bias: bool, data: st.DataObject
) -> None:
    if taps in (2, 3, 4) and stride == 2 and dilation == 1:
        taps = 5
    padding = data.draw(st.integers(0, dilation * (taps - 1) // 2))
    extra = data.draw(st.integers(0, max(stride, dilation) - 1))
    assert_same(nn.ConvTranspose1d(4, 8, taps, stride, padding, extra, groups, bias, dilation), 9)


@settings(max_examples=15, deadline=None)
@given(st.integers(4, 9), st.integers(1, 5), st.integers(0, 4), st.integers(1, 2), st.booleans())
def test_pools(taps: int, stride: int, padding: int, dilation: int, ceil: bool) -> None:
    layer = nn.MaxPool1d(taps, stride, min(padding, taps // 2), dilation, ceil_mode=ceil)
    assert_same(layer, dilation * (taps - 1) + 4)


@pytest.mark.parametrize("layer", [nn.AdaptiveAvgPool1d(7), nn.AdaptiveMaxPool1d(5), nn.AdaptiveAvgPool1d(3)])
def test_adaptive_pools(layer: nn.Module) -> None:
    assert_same(layer, 15)


@pytest.mark.parametrize("mode", ["reflect", "circular", "replicate"])
@pytest.mark.parametrize("padding", [4, "same"])
def test_other_padding(mode: str, padding: Any) -> None:
    assert_same(nn.Conv1d(4, 4, 9, padding=padding, padding_mode=mode), 20)


def test_what_cannot_be_a_row_says_why() -> None:
    model = nn.Sequential(nn.Conv1d(4, 4, 9), nn.Conv1d(4, 4, 9))
    model[1].weight = model[0].weight
    with pytest.raises(surgery.SurgeryError, match="its weight is tied to that of 1"):
        surgery.lite(model, ["sequence_to_row"])
    pool = nn.Sequential(nn.MaxPool1d(5, return_indices=True))
    with pytest.raises(surgery.SurgeryError, match="its indices are asked for"):
        surgery.lite(pool, ["sequence_to_row"])


def test_frozen_weights_stay_frozen() -> None:
    model = nn.Sequential(nn.Conv1d(4, 4, 9))
    model[0].weight.requires_grad_(False)
    lite, _ = surgery.lite(model, ["sequence_to_row"])
    assert isinstance(lite[0], RowLayer)
    assert not lite[0].layer.weight.requires_grad
    assert lite[0].layer.bias.requires_grad
