"""Drawing digit scenes: real handwritten digits and photographs, which scikit-learn carries, and what is made of them.

Train and validation share neither a digit nor a part of a photograph.
"""

import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance
from sklearn.datasets import load_digits, load_sample_image

LABELS = tuple(str(digit) for digit in range(10))
VALIDATION_SHARE = 0.3  # of the digits and of each photograph's width
MARGIN = 1  # pixels
FRAMED = 8 + 2 * MARGIN  # pixels of a framed digit's side

Pools = dict[str, list[list[Image.Image]]]  # split -> class -> masks, 0 background .. 255 ink


@dataclass(frozen=True)
class Style:
    """What scenes look like."""

    size: int  # pixels of a scene's side
    smallest: float  # share of it that a digit's side is at least
    largest: float  # and at most
    contrast: float  # how much brighter than what is below it a digit is at least, 0-255
    fragments: int  # most pieces of digits that are clutter
    strokes: int  # most lines that are clutter
    noise: float  # standard deviation of the pixel noise, 0-255


def digit_pools(seed: int) -> Pools:
    """The 1,797 digits by split and class, each with a clear margin so that its edges stay soft when enlarged."""
    digits = load_digits()
    framed = np.pad((digits.images * 255 / 16).astype(np.uint8), ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))
    masks = [Image.fromarray(digit) for digit in framed]
    rng = np.random.default_rng((seed, 1797))
    pools: Pools = {"train": [], "val": []}
    for label in range(len(LABELS)):
        chosen = rng.permutation(np.flatnonzero(digits.target == label))
        cut = round(len(chosen) * VALIDATION_SHARE)
        pools["val"].append([masks[index] for index in chosen[:cut]])
        pools["train"].append([masks[index] for index in chosen[cut:]])
    return pools


def photograph_pools() -> dict[str, list[Image.Image]]:
    """Left parts of the photographs for training, right parts for validation."""
    pools: dict[str, list[Image.Image]] = {"train": [], "val": []}
    for name in ("china.jpg", "flower.jpg"):
        photograph = Image.fromarray(load_sample_image(name))
        width, height = photograph.size
        cut = round(width * (1 - VALIDATION_SHARE))
        pools["train"].append(photograph.crop((0, 0, cut, height)))
        pools["val"].append(photograph.crop((cut, 0, width, height)))
    return pools


def cluttered(
    photographs: list[Image.Image], digits: list[list[Image.Image]], style: Style, rng: np.random.Generator
) -> Image.Image:
    """A crop of a photograph with strokes and fragments of digits: a scene but for its digits."""
    scene = _background(photographs, style.size, rng)
    for _ in range(rng.integers(0, style.strokes + 1)):
        _stroke(scene, rng)
    for _ in range(rng.integers(0, style.fragments + 1)):
        other = digits[rng.integers(len(LABELS))]
        paint(scene, _fragment(placed(other, style, rng), rng), style, rng)
    return scene


def save(scene: Image.Image, file: Path, style: Style, rng: np.random.Generator) -> None:
    """The finished scene with its noise, as a PNG that is written fast rather than small."""
    _with_noise(scene, style.noise, rng).save(file, compress_level=1, compress_type=zlib.Z_RLE)


def _background(photographs: list[Image.Image], size: int, rng: np.random.Generator) -> Image.Image:
    photograph = photographs[rng.integers(len(photographs))]
    side = int(rng.integers(min(size, 150), 180))
    left = int(rng.integers(photograph.width - side + 1))
    top = int(rng.integers(photograph.height - side + 1))
    crop = photograph.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    return ImageEnhance.Brightness(crop).enhance(rng.uniform(0.2, 0.6))


def placed(pool: list[Image.Image], style: Style, rng: np.random.Generator) -> Image.Image:
    """One digit of the pool turned and slanted, as a mask of the whole scene, inside its borders."""
    size = style.size
    side = size * rng.uniform(style.smallest, style.largest)
    angle, slant = math.radians(rng.uniform(-20, 20)), rng.uniform(-0.2, 0.2)
    across, down = rng.uniform(side / 2, size - side / 2, 2)
    scale = FRAMED / side  # from pixels of the scene back to those of the framed digit
    along = (scale * (math.cos(angle) + slant * math.sin(angle)), scale * (slant * math.cos(angle) - math.sin(angle)))
    below = (scale * math.sin(angle), scale * math.cos(angle))
    matrix = (
        *(*along, FRAMED / 2 - along[0] * across - along[1] * down),
        *(*below, FRAMED / 2 - below[0] * across - below[1] * down),
    )
    digit = pool[rng.integers(len(pool))]
    return digit.transform((size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)


def _fragment(mask: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A piece of a digit, too small to be read: a third to a half of it along one axis."""
    box = mask.getbbox()
    if box is None:
        return mask
    left, top, right, bottom = box
    share = rng.uniform(0.3, 0.5)
    if rng.random() < 0.5:
        right = left + round((right - left) * share)
    else:
        bottom = top + round((bottom - top) * share)
    piece = Image.new("L", mask.size)
    piece.paste(mask.crop((left, top, right, bottom)), (left, top))
    return piece


def paint(scene: Image.Image, mask: Image.Image, style: Style, rng: np.random.Generator) -> None:
    """Fill the mask with a colour that is brighter than what is below by at least the style's contrast."""
    box = mask.getbbox()
    if box is None:
        return
    below = np.asarray(scene.crop(box), np.float64).mean()
    tint = rng.uniform(-40, 40, 3)
    brightness = below + rng.uniform(style.contrast, max(style.contrast, 255 - below))
    colour = np.clip(brightness + tint - tint.mean(), 0, 255).astype(int)
    scene.paste((int(colour[0]), int(colour[1]), int(colour[2])), (0, 0), mask)


def _stroke(scene: Image.Image, rng: np.random.Generator) -> None:
    ends = rng.integers(0, scene.width, 4).tolist()
    colour = rng.integers(0, 256, 3).tolist()
    ImageDraw.Draw(scene).line(ends, fill=(colour[0], colour[1], colour[2]), width=int(rng.integers(1, 3)))


def _with_noise(scene: Image.Image, deviation: float, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(scene)
    noisy = rng.standard_normal(pixels.shape, np.float32)
    noisy *= deviation
    noisy += pixels
    return Image.fromarray(np.rint(noisy, noisy).clip(0, 255, noisy).astype(np.uint8))
