"""Digit scenes for segmentation: one to a few digits, and of each pixel which digit it belongs to, as label PNGs.

The digits, photographs and clutter of zoo.datasets.digit_scenes; class 0 is the background, digit d is class d + 1.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from zoo.config import Positive
from zoo.digits.drawing import Style
from zoo.digits.groups import Digit, written


def generate(
    folder: Path,
    *,
    train: Positive = 2000,
    val: Positive = 400,
    size: Positive = 96,
    seed: int = 0,
    smallest: float = 0.45,
    largest: float = 0.8,
    most: Positive = 2,
    overlap: float = 0.1,
    contrast: float = 100.0,
    fragments: int = 1,
    strokes: int = 2,
    noise: float = 4.0,
) -> None:
    """Write ``images/<split>/NNNNN.png`` and ``labels/<split>/NNNNN.png`` under ``folder``; same arguments, same bytes.

    ``train`` and ``val`` count images; ``most`` and ``overlap`` are those of zoo.digits.groups.written, the others but
    for ``seed`` those of zoo.digits.drawing.Style.
    """
    style = Style(size, smallest, largest, contrast, fragments, strokes, noise)
    for split, count in {"train": train, "val": val}.items():
        labels = folder / "labels" / split
        labels.mkdir(parents=True)
        images = folder / "images" / split
        for scene in written(images, split, count, style, seed=seed, most=most, overlap=overlap):
            _label_map(scene.digits, size).save(labels / scene.name)


def _label_map(digits: tuple[Digit, ...], size: int) -> Image.Image:
    values = np.zeros((size, size), np.uint8)
    for digit in digits:
        values[digit.seen] = digit.label + 1
    return Image.fromarray(values)
