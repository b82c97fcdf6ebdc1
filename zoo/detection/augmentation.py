"""What an image and its boxes may look like in training. Every random choice comes from the generator that is given.

Boxes are corners x1, y1, x2, y2 (K, 4); they may leave the input, and `seen` says what is left of them.
"""

import random

import torch
from PIL import Image
from torch import Tensor

from zoo.config import Preprocessing
from zoo.detection.placing import into_input
from zoo.preprocess import GREY, Placement, placement

SCALES = (0.5, 1.5)  # of the letterboxed image
REACH = 0.1  # of the input's side, that the scaled image is moved each way at most
LEAST_SEEN = 0.1  # of a box's area
LEAST_SIDE = 2.0  # pixels of the input


def shift(pixels: Tensor, boxes: Tensor, rng: random.Random) -> tuple[Tensor, Tensor]:
    """Pixels (3, H, W) and boxes in them moved by at most a sixteenth of the image each way; the edge is repeated."""
    height, width = pixels.shape[1:]
    down, right = (rng.randint(-max(1, length // 16), max(1, length // 16)) for length in (height, width))
    rows = (torch.arange(height) - down).clamp(0, height - 1)
    columns = (torch.arange(width) - right).clamp(0, width - 1)
    return pixels[:, rows][:, :, columns], boxes + boxes.new_tensor([right, down, right, down])


def scale_flip(
    image: Image.Image, boxes: Tensor, preprocessing: Preprocessing, rng: random.Random
) -> tuple[Image.Image, Tensor]:
    """The image in its letterbox and boxes in its pixels, both scaled, moved, and mirrored every other time.

    The ranges are those of YOLOv5's affine transform; there is no mosaic.
    """
    size, (inner, corner) = preprocessing.size, _scaled(image, preprocessing, rng)
    square = Image.new("RGB", (size, size), (GREY, GREY, GREY))
    square.paste(image.resize(inner, Image.Resampling[preprocessing.interpolation.upper()]), corner)
    placed = Placement((inner[0] / image.width, inner[1] / image.height), corner)
    boxes = into_input(boxes, placed)
    if rng.random() < 0.5:
        return square, boxes
    return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT), _mirrored(boxes, size)


def seen(boxes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The boxes cut off at the input's edges, and of which (K,) enough is left to be a target."""
    inside = boxes.clamp(0, size)
    sides = inside[:, 2:] - inside[:, :2]
    share = sides.prod(1) / (boxes[:, 2:] - boxes[:, :2]).prod(1).clamp(min=1e-9)
    return inside, (share > LEAST_SEEN) & (sides.amin(1) >= LEAST_SIDE)


def _scaled(
    image: Image.Image, preprocessing: Preprocessing, rng: random.Random
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The sides of the image, and where its corner is, once it is scaled around the middle of the input and moved."""
    size, factor = preprocessing.size, rng.uniform(*SCALES)
    across, down = placement(*image.size, preprocessing).scale
    width, height = max(1, round(image.width * across * factor)), max(1, round(image.height * down * factor))
    left, top = (round((size - side) / 2 + rng.uniform(-REACH, REACH) * size) for side in (width, height))
    return (width, height), (left, top)


def _mirrored(boxes: Tensor, size: int) -> Tensor:
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack([size - right, top, size - left, bottom], 1)
