"""Plain convolutions made from other layers' weights, and their padding side by side."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from surgery.observing.names import behaves_as, dotted, is_named

Pair = tuple[int, int]

# Subclasses whose own forward only guards against empty inputs.
_GUARDED = {
    "mmcv.cnn.bricks.wrappers.Conv2d": nn.Conv2d,
    "mmcv.cnn.bricks.wrappers.ConvTranspose2d": nn.ConvTranspose2d,
}
_SETTINGS = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
_LAYERS: Mapping[str, Any] = {
    "zeros": nn.ZeroPad2d,
    "reflect": nn.ReflectionPad2d,
    "replicate": nn.ReplicationPad2d,
    "circular": nn.CircularPad2d,
}


def _conv2d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> None:
    """torch.conv2d itself tells no signature."""


# The arguments of torch.conv2d.
CONV2D = inspect.signature(_conv2d)


@dataclass(frozen=True)
class Sides:
    """Rows or columns on each side of (N, C, H, W)."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    @classmethod
    def of(cls, height: Pair, width: Pair) -> "Sides":
        """From (before, after) of each axis."""
        return cls(*height, *width)

    @classmethod
    def from_padding(cls, padding: Sequence[int]) -> "Sides":
        """From the order of ``F.pad``; inverse of ``padding``."""
        left, right, top, bottom = padding
        return cls(top, bottom, left, right)

    @property
    def symmetric(self) -> bool:
        """Whether a convolution's own padding can say it."""
        return self.top == self.bottom >= 0 and self.left == self.right >= 0

    def padding(self) -> tuple[int, int, int, int]:
        """In the order of ``F.pad``."""
        return (self.left, self.right, self.top, self.bottom)

    def __bool__(self) -> bool:
        return any(self.padding())


class Crop2d(nn.Module):
    """Leaves out rows and columns of (N, C, H, W); ``amount`` is (left, right, top, bottom) as in torch's paddings."""

    def __init__(self, amount: Sequence[int]) -> None:
        super().__init__()
        self.amount = tuple(amount)

    def forward(self, input: Tensor) -> Tensor:
        """A view of (N, C, H - top - bottom, W - left - right)."""
        left, right, top, bottom = self.amount
        return input[..., top : -bottom or None, left : -right or None]

    def extra_repr(self) -> str:
        """The four amounts."""
        return str(self.amount)


def is_plain(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether a module is of one of these kinds with a weight parameter of its own and nothing added to its forward."""
    if module._parameters.get("weight") is None:
        return False
    guarded = is_named(module, _GUARDED) and _GUARDED[dotted(module)] in kinds
    return guarded or any(behaves_as(module, kind) for kind in kinds)


def sides(conv: nn.Conv2d) -> Sides:
    """What a convolution pads on each side."""
    return sides_of(conv.padding, conv.kernel_size, conv.dilation)


def sides_of(padding: str | int | Sequence[int], kernel: Sequence[int], dilation: Sequence[int]) -> Sides:
    """What that argument of a convolution means; of an odd "same" padding the larger half comes last."""
    if padding == "valid":
        return Sides()
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        height, width = ((n // 2, n - n // 2) for n in total)
        return Sides.of(height, width)
    height, width = ((n, n) for n in both(padding))
    return Sides.of(height, width)


def both(setting: Any) -> Pair:
    """A setting for rows and columns, which may be one number for both."""
    values = [setting] if isinstance(setting, int) else list(setting)
    return int(values[0]), int(values[-1])


def padding_layers(amount: Sides, mode: str = "zeros") -> list[nn.Module]:
    """The layer that pads so, in a list; empty where there is nothing to pad."""
    return [_LAYERS[mode](amount.padding())] if amount else []


def plain(
    weight: Tensor, bias: Tensor | None, like: nn.Module, padding: Sides | None = None, **settings: Any
) -> nn.Conv2d:
    """A convolution with these weights (O, I / groups, kH, kW), trained or frozen as those of ``like`` are.

    ``settings`` are stride, dilation and groups; ``padding`` must be symmetric.
    """
    amount = padding or Sides()
    new = nn.Conv2d(
        weight.shape[1] * settings.get("groups", 1),
        weight.shape[0],
        (weight.shape[2], weight.shape[3]),
        padding=(amount.top, amount.left),
        bias=bias is not None,
        device="meta",
        **settings,
    )
    new.weight = _parameter(weight, like.weight)  # type: ignore[arg-type]
    if bias is not None:
        new.bias = _parameter(bias, like.bias)  # type: ignore[arg-type]
    return new.train(like.training)


def plain_linear(weight: Tensor, bias: Tensor | None, like: nn.Module) -> nn.Linear:
    """A linear layer with these weights (O, I), trained or frozen as those of ``like`` are."""
    new = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    new.weight = _parameter(weight, like.weight)  # type: ignore[arg-type]
    if bias is not None:
        new.bias = _parameter(bias, like.bias)  # type: ignore[arg-type]
    return new.train(like.training)


def padded(conv: nn.Conv2d, amount: Sides) -> nn.Module:
    """The convolution with zeros around its input: its own padding where that can say it."""
    if not amount.symmetric:
        return nn.Sequential(nn.ZeroPad2d(amount.padding()), conv)
    conv.padding = (amount.top, amount.left)
    conv._reversed_padding_repeated_twice = [amount.left] * 2 + [amount.top] * 2
    return conv


def in_sequence(layers: Iterable[nn.Module]) -> nn.Module:
    """The layers one after another; one alone is itself."""
    listed = list(layers)
    return listed[0] if len(listed) == 1 else nn.Sequential(*listed)


def with_settings_of(conv: nn.Module, new: nn.Module) -> nn.Module:
    """``new``, which stands for a convolution and tells its settings, because code beside it may read them.

    A convolution tells its own.
    """
    if not isinstance(new, nn.Conv2d):
        for name in _SETTINGS:
            setattr(new, name, getattr(conv, name))
    return new


def _parameter(value: Tensor, like: nn.Parameter | None) -> nn.Parameter:
    value = value.detach().clone()
    if like is not None and like.ndim == 4 and value.ndim == 4 and _channels_last(like):
        value = value.contiguous(memory_format=torch.channels_last)
    return nn.Parameter(value, requires_grad=like is None or like.requires_grad)


def _channels_last(tensor: Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()
