"""Digit scenes: real handwritten digits on real photographs, made from what scikit-learn carries; no download.

Each image shows one whole digit, its class, of varying size, colour, contrast, slant and rotation, on a crop of one of
two photographs, among clutter: fragments of other digits and strokes. A stand-in with honest accuracies, never
presented as another dataset. Train and validation share neither a digit nor a part of a photograph.
"""

from pathlib import Path

import numpy as np

from zoo.config import Positive
from zoo.digits.drawing import LABELS, Style, cluttered, digit_pools, paint, photograph_pools, placed, save


def generate(
    folder: Path,
    *,
    train: Positive = 5000,
    val: Positive = 1000,
    size: Positive = 64,
    seed: int = 0,
    smallest: float = 0.7,
    largest: float = 0.95,
    contrast: float = 100.0,
    fragments: int = 1,
    strokes: int = 2,
    noise: float = 4.0,
) -> None:
    """Write ``train/<0..9>/NNNN.png`` and ``val/<0..9>/NNNN.png`` under ``folder``; same arguments, same bytes.

    ``train`` and ``val`` count images, classes in turn; the arguments from ``size`` on, but for ``seed``, are those of
    zoo.digits.drawing.Style.
    """
    style = Style(size, smallest, largest, contrast, fragments, strokes, noise)
    digits, photographs = digit_pools(seed), photograph_pools()
    for number, (split, count) in enumerate({"train": train, "val": val}.items()):
        for name in LABELS:
            (folder / split / name).mkdir(parents=True)
        for index in range(count):
            # A generator per image: an image does not depend on how many others are made.
            rng = np.random.default_rng((seed, number, index))
            digit = index % len(LABELS)
            scene = cluttered(photographs[split], digits[split], style, rng)
            paint(scene, placed(digits[split][digit], style, rng), style, rng)
            save(scene, folder / split / LABELS[digit] / f"{index // len(LABELS):04d}.png", style, rng)
