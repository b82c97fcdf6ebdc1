"""What an image and its label map may look like in training. Every random choice comes from the generator given."""

import random

import torch
from PIL import Image
from torch import Tensor

from zoo.config import Preprocessing
from zoo.data.label_maps import IGNORED
from zoo.preprocess import GREY, to_pixels
from zoo.segmentation.placing import Labels
from zoo.training import augmentation

SCALES = (0.5, 2.0)  # of the short side, over `resize`; those that torchvision's published weights were trained with


def shift(pixels: Tensor, labels: Tensor, rng: random.Random) -> tuple[Tensor, Tensor]:
    """Pixels (3, H, W) and labels (H, W), both uint8, moved alike; see zoo.training.augmentation.shift."""
    moved = augmentation.shift(torch.cat([pixels, labels[None]]), rng)
    return moved[:3], moved[3]


def scale_crop_flip(
    image: Image.Image, labels: Labels, preprocessing: Preprocessing, rng: random.Random
) -> tuple[Tensor, Tensor]:
    """A random square of the image at a random scale, mirrored every other time: (3, size, size), (size, size).

    Beyond the image it is grey as in a letterbox, and 255 in the labels.
    """
    scale = preprocessing.resize * rng.uniform(*SCALES) / min(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    size = preprocessing.size
    left, top = (rng.randint(0, max(0, side - size)) for side in (width, height))
    inner = (min(size, width), min(size, height))
    across, down = image.width / width, image.height / height
    box = (left * across, top * down, (left + inner[0]) * across, (top + inner[1]) * down)
    pixels = Image.new("RGB", (size, size), (GREY, GREY, GREY))
    pixels.paste(image.resize(inner, Image.Resampling[preprocessing.interpolation.upper()], box))
    classes = Image.new("L", (size, size), IGNORED)
    classes.paste(Image.fromarray(labels).resize(inner, Image.Resampling.NEAREST, box))
    if rng.random() < 0.5:
        pixels, classes = (each.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for each in (pixels, classes))
    return to_pixels(pixels), torch.frombuffer(bytearray(classes.tobytes()), dtype=torch.uint8).view(size, size)
