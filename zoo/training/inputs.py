"""A few model inputs of a set of images: what is measured on, and what is compared."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from zoo.config import Preprocessing
from zoo.errors import DatasetError
from zoo.preprocess import normalised
from zoo.training.images import Samples, batches


def drawn(images: Samples, preprocessing: Preprocessing, batch_size: int, count: int, seed: int) -> Iterator[Tensor]:
    """At most ``count`` batches (batch_size, 3, size, size) of images that the seed draws."""
    generator = torch.Generator().manual_seed(seed)
    indices = torch.randperm(len(images), generator=generator)[: batch_size * count].tolist()
    for pixels, _ in batches(images, batch_size, indices):
        yield normalised(pixels, preprocessing)


def spaced(images: Samples, preprocessing: Preprocessing, count: int, data: Path) -> Tensor:
    """At most ``count`` images (N, 3, size, size), evenly spaced; raises DatasetError naming ``data`` for none."""
    if not len(images):
        raise DatasetError(f"{data}: no validation images; check the dataset's val split")
    indices = torch.linspace(0, len(images) - 1, min(count, len(images))).round().int().tolist()
    pixels, _ = next(iter(batches(images, len(indices), indices)))
    return normalised(pixels, preprocessing).contiguous()
