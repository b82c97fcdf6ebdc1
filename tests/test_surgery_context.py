"""Blocks that a traced graph would lose are found without running the forward."""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from surgery.observing.context import scopes


def exact(x: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return F.gelu(x.float())


class Block(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            scale = x.abs().max()
        return F.silu(x) / scale


class InMethod(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return self._cached(x)

    def _cached(self, x: Tensor) -> Tensor:
        with torch.inference_mode(), nullcontext():
            return F.silu(x)

    def loss(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            return self(x).sum()


class InFunction(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([exact(part) for part in x])


class Decorated(nn.Module):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x)


class DecoratedMethod(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return self.half_way(x)

    @torch.autocast("cpu")
    def half_way(self, x: Tensor) -> Tensor:
        return F.silu(x)


class Base(Block):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


class Child(nn.Module):
    """A child's forward is the child's own business, but its method is not; one that nobody calls is nobody's."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.other = Block(), InMethod()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + self.other.loss(x) if torch.is_grad_enabled() else F.silu(x)

    def loss(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            return self(x).sum()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Block, ["no_grad"]),
        (InMethod, ["inference_mode"]),
        (InFunction, ["autocast"]),
        (Decorated, ["no_grad"]),
        (DecoratedMethod, ["autocast"]),
        (Base, ["no_grad"]),
        (Child, ["enable_grad"]),
        (nn.SiLU, []),
        (nn.Identity, []),
    ],
)
def test_scopes(kind: type[nn.Module], expected: list[str]) -> None:
    assert scopes(kind()) == expected


def test_published_layers() -> None:
    from timm.layers import LayerNormFp32, SqueezeExcite
    from torchvision.models.resnet import BasicBlock

    assert scopes(SqueezeExcite(8)) == []
    assert scopes(BasicBlock(4, 4)) == []
    assert scopes(nn.MultiheadAttention(4, 2)) == []
    assert scopes(LayerNormFp32(4)) == []
