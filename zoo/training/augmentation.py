"""What an image may look like in training. Every random choice comes from the generator that is given."""

import math
import random

import torch
from PIL import Image
from torch import Tensor

from zoo.config import Preprocessing


def shift(pixels: Tensor, rng: random.Random) -> Tensor:
    """Pixels (3, H, W) moved by at most a sixteenth of the image each way; the edge is repeated. No mirror image: of
    most digits it is none."""
    rows, columns = (_moved(length, rng) for length in pixels.shape[1:])
    return pixels[:, rows][:, :, columns]


def crop_flip(image: Image.Image, preprocessing: Preprocessing, rng: random.Random) -> Image.Image:
    """A random part of the image, stretched to the input's size, mirrored every other time.

    The part has 8-100 % of the area and an aspect of 3/4 to 4/3 (Szegedy et al. 2015, section 6).
    """
    size = (preprocessing.size, preprocessing.size)
    part = image.resize(size, Image.Resampling[preprocessing.interpolation.upper()], _random_box(image, rng))
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part


def _moved(length: int, rng: random.Random) -> Tensor:
    reach = max(1, length // 16)
    return (torch.arange(length) + rng.randint(-reach, reach)).clamp(0, length - 1)


def _random_box(image: Image.Image, rng: random.Random) -> tuple[int, int, int, int]:
    for _ in range(10):
        area = image.width * image.height * rng.uniform(0.08, 1.0)
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= image.width and 0 < height <= image.height:
            left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
            return (left, top, left + width, top + height)
    return (0, 0, image.width, image.height)
