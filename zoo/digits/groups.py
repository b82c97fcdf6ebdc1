"""Scenes of several digits, and what of each is seen: of that the labels of pixels and the boxes are made."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.digits.drawing import LABELS, Style, cluttered, digit_pools, paint, photograph_pools, placed, save

INK = 128  # of a mask's 255, from which a pixel is a digit's
TRIES = 20  # places that are tried for a digit before it is left out
FEWEST_PIXELS = 8  # of a digit that is seen; with less it is no object

Ink = NDArray[np.bool_]  # (size, size)
Box = tuple[int, int, int, int]  # left, top, right, bottom; the last two are outside


@dataclass(frozen=True)
class Digit:
    """One digit of a scene."""

    label: int
    seen: Ink  # its pixels that no other digit covers

    @property
    def box(self) -> Box:
        """Around what is seen of it."""
        return box_of(self.seen)


@dataclass(frozen=True)
class Scene:
    """An image that was written, and its digits."""

    index: int
    name: str  # of its file
    digits: tuple[Digit, ...]


def written(
    folder: Path, split: str, count: int, style: Style, *, seed: int, most: int, overlap: float
) -> Iterator[Scene]:
    """Write ``count`` images ``NNNNN.png`` of a split into ``folder``, each with 1 to ``most`` digits.

    The first digit's class goes round the classes from image to image. The boxes of two digits' ink have an
    intersection over union of at most ``overlap``; a digit for which there is no such place is left out.
    """
    folder.mkdir(parents=True)
    digits, photographs = digit_pools(seed)[split], photograph_pools()[split]
    for index in range(count):
        # A generator per image: an image does not depend on how many others are made.
        rng = np.random.default_rng((seed, ("train", "val").index(split), index))
        scene = cluttered(photographs, digits, style, rng)
        labels = [index % len(LABELS), *rng.integers(len(LABELS), size=rng.integers(most)).tolist()]
        placements = _scattered([(label, digits[label]) for label in labels], style, overlap, rng)
        for placement in placements:
            paint(scene, placement.mask, style, rng)
        name = f"{index:05d}.png"
        save(scene, folder / name, style, rng)
        yield Scene(index, name, _seen(placements))


def box_of(ink: Ink) -> Box:
    """Around all pixels of the ink, of which there must be some."""
    across, down = np.flatnonzero(ink.any(0)), np.flatnonzero(ink.any(1))
    return int(across[0]), int(down[0]), int(across[-1]) + 1, int(down[-1]) + 1


def shared(one: Box, other: Box) -> float:
    """The intersection over union of two boxes."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    both = max(wide, 0) * max(high, 0)
    return both / (_area(one) + _area(other) - both)


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


@dataclass(frozen=True)
class _Placement:
    label: int
    mask: Image.Image
    ink: Ink
    box: Box


def _scattered(
    pools: list[tuple[int, list[Image.Image]]], style: Style, overlap: float, rng: np.random.Generator
) -> list[_Placement]:
    """One digit of each labelled pool, but for those that find no place."""
    placements: list[_Placement] = []
    for label, pool in pools:
        for _ in range(TRIES):
            mask = placed(pool, style, rng)
            ink = np.asarray(mask) >= INK
            if ink.sum() < FEWEST_PIXELS:
                continue
            box = box_of(ink)
            if all(shared(box, other.box) <= overlap for other in placements):
                placements.append(_Placement(label, mask, ink, box))
                break
    return placements


def _seen(placements: list[_Placement]) -> tuple[Digit, ...]:
    """What the later digits leave of the earlier ones, in the order in which they are painted."""
    found = []
    covered: Ink | None = None
    for placement in reversed(placements):
        seen = placement.ink if covered is None else placement.ink & ~covered
        covered = placement.ink if covered is None else placement.ink | covered
        if seen.sum() >= FEWEST_PIXELS:
            found.append(Digit(placement.label, seen))
    return tuple(reversed(found))
