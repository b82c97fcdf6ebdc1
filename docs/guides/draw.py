"""Draws the pictures of the guide to surgery: ``python docs/guides/draw.py`` writes docs/guides/drawings/*.svg.

Each picture is one small block before and after surgery, drawn by the library itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from surgery.drawing.drawing import before_after

FOLDER = Path(__file__).parent / "drawings"


class SqueezeExcite(nn.Module):
    """Multiplies each channel by a factor computed from the mean of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        gate = F.relu(self.reduce(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.expand(gate))


class GatedBlock(nn.Module):
    """An inverted residual as in MobileNetV3, its gate written out in the forward."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm, self.act = nn.BatchNorm2d(channels), nn.ReLU()
        self.gate = SqueezeExcite(channels)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        return x + self.project(self.gate(self.act(self.norm(self.depthwise(x)))))


class Perceptron(nn.Module):
    """Two 1x1 convolutions with GELU between them."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.expand, self.project = nn.Conv2d(channels, 4 * channels, 1), nn.Conv2d(4 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        return x + self.project(F.gelu(self.expand(x)))


class ConvNeXtBlock(nn.Module):
    """Large depthwise kernel, then LayerNorm and a perceptron over channels that stand last."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.expand, self.act, self.project = nn.Linear(channels, 64), nn.GELU(), nn.Linear(64, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.project(self.act(self.expand(y)))
        return x + y.permute(0, 3, 1, 2)


class Focus(nn.Module):
    """Each 2x2 block of pixels becomes channels, then a convolution: the stem of the first YOLOv5."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 16, H / 2, W / 2)."""
        corners = (x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2])
        return self.conv(torch.cat(corners, 1))


@dataclass(frozen=True)
class Picture:
    """What is drawn: a module inside a small model, and the rules that act."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    rules: Literal["default"] | Sequence[str] = "default"
    site: str = "0"
    inside: bool = False  # whether to draw what modules within compute


PICTURES = {
    "squeeze_excite": Picture(GatedBlock, (1, 16, 16, 16), inside=True),
    "gelu": Picture(Perceptron, (1, 16, 16, 16)),
    "layer_norm": Picture(
        ConvNeXtBlock, (1, 16, 16, 16), ["channels_last_to_first", "norm_to_batchnorm", "gelu_to_relu"]
    ),
    "large_kernel": Picture(lambda: nn.Conv2d(16, 16, 7, padding=3, groups=16), (1, 16, 16, 16), site="", inside=True),
    "focus": Picture(Focus, (1, 3, 16, 16), ["focus_to_conv"]),
}


def drawn(name: str) -> str:
    """The SVG of one picture; the same each time."""
    picture = PICTURES[name]
    torch.manual_seed(0)
    model, images = nn.Sequential(picture.build()), torch.randn(picture.shape)
    return before_after(model, images, picture.rules, picture.site, picture.inside)


def write(folder: Path = FOLDER) -> list[Path]:
    """Draw all of them."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"{name}.svg" for name in PICTURES]
    for file in files:
        file.write_text(drawn(file.stem), encoding="utf-8")
    return files


if __name__ == "__main__":
    for file in write():
        print(file)
