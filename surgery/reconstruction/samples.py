"""What layers receive and give, at a few positions of each image: enough to fit them by, and little to hold."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surgery.reconstruction.layers import Layer

SAMPLES = 8192  # positions over all images


@dataclass(frozen=True)
class Positions:
    """Where outputs are looked at: ``indices`` (N, P) into their ``count`` pixels or tokens, row by row."""

    indices: Tensor
    count: int

    @classmethod
    def drawn(cls, images: int, count: int, seed: int, device: torch.device) -> "Positions":
        """About SAMPLES over all images, other ones in each image, at least one."""
        scores = torch.rand(images, count, generator=torch.Generator().manual_seed(seed))
        kept = min(count, max(1, SAMPLES // images))
        return cls(scores.topk(kept, dim=1).indices.to(device), count)


def pixels(value: Tensor, layer: Layer) -> Tensor:
    """What a layer received or gave as (N, C, pixels or tokens)."""
    return (
        (value.movedim(-1, 1) if isinstance(layer, nn.Linear) else value).flatten(2)
        if value.ndim > 2
        else value[:, :, None]
    )


def at(values: Tensor, positions: Positions) -> Tensor:
    """(N, C, count) -> (N * P, C)."""
    images, channels = values.shape[:2]
    found = values.gather(2, positions.indices[:, None].expand(images, channels, -1))
    return found.movedim(1, 2).reshape(-1, channels)


def inputs(received: Tensor, layer: Layer, positions: Positions) -> Tensor | None:
    """What a layer's outputs at the positions are computed from: (groups, N * P, inputs of one output); None where it
    gives another number of pixels."""
    if isinstance(layer, nn.Conv2d):
        return _patches(received, layer, positions)
    values = pixels(received, layer)
    return at(values, positions)[None] if values.shape[2] == positions.count else None


def _patches(received: Tensor, layer: nn.Conv2d, positions: Positions) -> Tensor | None:
    images, channels = received.shape[:2]
    pad_y, pad_x = (int(side) for side in layer.padding)
    padded = F.pad(received, (pad_x, pad_x, pad_y, pad_y))
    spans = [dilation * (kernel - 1) for kernel, dilation in zip(layer.kernel_size, layer.dilation, strict=True)]
    height, width = padded.shape[2:]
    across = (width - spans[1] - 1) // layer.stride[1] + 1
    if ((height - spans[0] - 1) // layer.stride[0] + 1) * across != positions.count:
        return None
    rows = torch.arange(0, spans[0] + 1, layer.dilation[0], device=received.device)
    columns = torch.arange(0, spans[1] + 1, layer.dilation[1], device=received.device)
    window = (rows[:, None] * width + columns).flatten()
    first = positions.indices // across * layer.stride[0] * width + positions.indices % across * layer.stride[1]
    read = (first[:, :, None] + window).flatten(1)  # (N, P * kernel)
    found = padded.flatten(2).gather(2, read[:, None].expand(images, channels, -1))
    each = (images, layer.groups, channels // layer.groups, positions.indices.shape[1], len(window))
    return found.reshape(each).permute(1, 0, 3, 2, 4).reshape(layer.groups, images * each[3], -1)
