"""Blocks that permute to channels last and back compute the same without permuting."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery.operating.verify import difference
from surgery.rule_parts.channel_norm import ChannelBatchNorm, ChannelsFirstLayerNorm

RULE = ["channels_last_to_first"]


class Mlp(nn.Module):
    def __init__(self, count: int, hidden: int, bias: bool) -> None:
        super().__init__()
        self.fc1, self.act, self.drop = nn.Linear(count, hidden, bias=bias), nn.GELU(), nn.Dropout(0.5)
        self.norm, self.fc2 = nn.LayerNorm(hidden, eps=1e-3, bias=bias), nn.Linear(hidden, count, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.norm(self.drop(F.relu(self.act(self.fc1(x))))))


class Gated(nn.Module):
    """Splits, gates and joins channels."""

    def __init__(self, count: int, hidden: int, bias: bool) -> None:
        super().__init__()
        self.wide, self.scale = nn.Linear(count, 2 * hidden, bias=bias), nn.Parameter(torch.rand(hidden))
        self.narrow = nn.Sequential(nn.Identity(), nn.Linear(2 * hidden, count))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.wide(x).chunk(2, dim=-1)
        return self.narrow(torch.cat([a * torch.sigmoid(b), self.scale * b + 1], dim=3))


class Around(nn.Module):
    """A convolution inside of channels last."""

    def __init__(self, count: int, hidden: int, bias: bool) -> None:
        super().__init__()
        self.fc, self.conv = nn.Linear(count, hidden, bias=bias), nn.Conv2d(hidden, count, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.fc(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1) + x


class Block(nn.Module):
    def __init__(self, inner: nn.Module, count: int, written: str) -> None:
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(count), inner
        self.gamma, self.written = nn.Parameter(torch.rand(count)), written

    def forward(self, x: Tensor) -> Tensor:
        if self.written == "function":
            y = torch.permute(x, (0, 2, -1, 1))
        else:
            y = x.permute((0, 2, 3, 1)) if self.written == "tuple" else x.permute(0, 2, 3, 1)
        y = self.gamma * self.inner(self.norm(y)) + y
        return x * 2 + y.permute(0, 3, 1, 2).contiguous()


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 4),
    hidden=st.integers(1, 5),
    size=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    inner=st.sampled_from([Mlp, Gated, Around]),
    bias=st.booleans(),
    written=st.sampled_from(["function", "tuple", "method"]),
    seen=st.booleans(),
)
def test_result_is_exact(
    count: int,
    hidden: int,
    size: tuple[int, int, int],
    inner: Callable[..., nn.Module],
    bias: bool,
    written: str,
    seen: bool,
) -> None:
    model = Block(inner(count, hidden, bias), count, written).double().eval()
    n, h, w = size
    x = torch.randn(n, count, h, w, dtype=torch.float64)
    result, report = surgery.lite(model, RULE, example_inputs=(x,) if seen else None)
    assert not report.refusals
    assert [edit.site for edit in report.edits] == [""]
    assert difference(model(x), result(x)) <= 1e-12
    other = torch.randn(n + 1, count, h + 2, w + 1, dtype=torch.float64)
    assert difference(model(other), result(other)) <= 1e-12
    permutes = [o for o in surgery.operators(result, (x,)) if o.name == "permute"]
    assert all(isinstance(result.get_submodule(o.module), ChannelsFirstLayerNorm) for o in permutes)
    result.train()(x).sum().backward()
    assert all(p.grad is not None for p in result.parameters())
    again = surgery.replay(model, report.plan)
    again.load_state_dict(result.state_dict())
    assert torch.equal(again.eval()(x), result.eval()(x))


def test_flags_of_the_weights_stay() -> None:
    model = Block(Mlp(4, 6, True), 4, "method")
    model.inner.fc1.weight.requires_grad_(False)
    result, _ = surgery.lite(model, RULE)
    assert isinstance(result.inner.fc1, nn.Conv2d)
    assert not result.inner.fc1.weight.requires_grad
    assert result.inner.fc2.weight.requires_grad
    assert set(result.state_dict()) == set(model.state_dict())


def test_norms_that_were_batch_normalizations_already_move_too() -> None:
    model = Block(Mlp(4, 6, True), 4, "method").eval()
    x = torch.randn(2, 4, 5, 5)
    once, _ = surgery.lite(model, ["norm_to_batchnorm"], example_inputs=(x,))
    twice, _ = surgery.lite(once, RULE, example_inputs=(x,))
    assert isinstance(twice.norm, ChannelBatchNorm)
    assert twice.norm.axis == 1
    torch.testing.assert_close(twice(x), once(x), rtol=1e-4, atol=1e-5)
    assert "permute" not in {o.name for o in surgery.operators(twice, (x,))}


class Returned(Block):
    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x.permute(0, 2, 3, 1))
        return y, y.permute(0, 3, 1, 2)


class OverRows(Block):
    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.permute(0, 2, 3, 1).softmax(1)).permute(0, 3, 1, 2)


class Twice(Block):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


class OtherOperand(Block):
    def forward(self, x: Tensor) -> Tensor:
        return (self.inner(x.permute(0, 2, 3, 1)) + x.mean((2, 3))[:, None, None]).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Returned, "is what it returns"),
        (OverRows, "softmax reads"),
        (Twice, "norm"),
        (OtherOperand, "combined with"),
    ],
)
def test_what_cannot_be_proven_stays(kind: type[Block], reason: str) -> None:
    model = kind(Mlp(4, 6, True), 4, "method")
    for inputs in (None, (torch.randn(2, 4, 5, 5),)):
        with pytest.raises(surgery.SurgeryError, match=reason):
            surgery.lite(model, RULE, example_inputs=inputs)


@pytest.mark.parametrize("what", ["layer", "weight"])
def test_shared_layers_and_weights_stay(what: str) -> None:
    model = Block(Mlp(4, 6, True), 4, "method")
    model.head = model.inner.fc1 if what == "layer" else nn.Linear(4, 6)
    model.head.weight = model.inner.fc1.weight
    with pytest.raises(surgery.SurgeryError, match=r"inner\.fc1 or its weights are shared"):
        surgery.lite(model, RULE)


def check(model: nn.Module, edits: int, left: int = 0) -> None:
    model.double().eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    result, report = surgery.lite(model, RULE, example_inputs=(x,))
    assert len(report.edits) == edits
    assert not report.refusals
    other = torch.randn(3, 3, 64, 32, dtype=torch.float64)
    assert difference(model(other), result(other)) <= 1e-12
    assert difference(model(x), result(x)) <= 1e-12
    clean, _ = surgery.lite(result, [*RULE, "norm_to_batchnorm"][1:], example_inputs=(x,))
    assert [o.name for o in surgery.operators(clean, (x,))].count("permute") == left


@pytest.mark.parametrize(
    ("name", "settings", "edits"),
    [
        ("convnext_atto", {"conv_mlp": False}, 4),
        ("convnextv2_atto", {"conv_mlp": False}, 4),
        ("convnext_atto_rms", {"conv_mlp": True}, 0),
    ],
)
def test_convnext_of_timm(name: str, settings: dict[str, bool], edits: int) -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model(name, depths=(1, 1, 1, 1), **settings)
    if edits:
        check(model, edits)
    else:  # permutes of the norms alone are none of this rule's
        with pytest.raises(surgery.SurgeryError, match="matches no layer"):
            surgery.lite(model, RULE, example_inputs=(torch.randn(1, 3, 32, 32),))


def test_convnext_of_torchvision() -> None:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    check(ConvNeXt([CNBlockConfig(8, 12, 1), CNBlockConfig(12, None, 2)], num_classes=5, layer_scale=0.5), 3)


class Bounded(Block):
    """Bounds and an exponent for each channel, and a weight."""

    def __init__(self) -> None:
        super().__init__(nn.Identity(), 6, "method")
        self.low, self.high, self.power = (nn.Parameter(torch.rand(6) + shift) for shift in (-2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = x.permute(0, 2, 3, 1).clamp(min=self.low, max=self.high)
        y = torch.clamp(y, self.low, max=self.high) * self.power
        return y.abs().pow(self.power).permute(0, 3, 1, 2)


def test_bounds_for_each_channel_move_along() -> None:
    x = torch.randn(2, 6, 5, 6)  # as wide as there are channels
    model = nn.Sequential(Bounded()).eval()
    lite, report = surgery.lite(model, RULE, example_inputs=(x,))
    assert report.by_rule() == {"channels_last_to_first": 1}
    for value in (x, torch.randn(1, 6, 6, 7)):
        assert difference(model(value), lite(value)) <= 1e-5
    lite(x).sum().backward()
    assert lite[0].low.grad.shape == (6,)
