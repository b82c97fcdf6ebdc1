"""Label maps through the geometry of their images: into the model's input, and back."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zoo.config import Preprocessing
from zoo.data.label_maps import IGNORED
from zoo.preprocess import placement

Labels = NDArray[np.uint8]


def placed(labels: Labels, preprocessing: Preprocessing) -> Tensor:
    """Classes of an image's pixels (H, W) where zoo.preprocess.letterboxed puts the image: uint8 (size, size).

    Nearest neighbour; 255 beyond the image, so that its border counts neither in training nor in the metric.
    """
    left, top, right, bottom = _box(labels.shape[1], labels.shape[0], preprocessing)
    square = np.full((preprocessing.size, preprocessing.size), IGNORED, np.uint8)
    square[top:bottom, left:right] = _resized(labels, right - left, bottom - top)
    return torch.from_numpy(square)


def taken_back(classes: Labels, width: int, height: int, preprocessing: Preprocessing) -> Labels:
    """Classes of an input's pixels (size, size) for an image of these sides: (height, width)."""
    left, top, right, bottom = _box(width, height, preprocessing)
    return _resized(classes[top:bottom, left:right], width, height)


def _box(width: int, height: int, preprocessing: Preprocessing) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of an image of these sides in the model's input."""
    if preprocessing.geometry != "letterbox":
        raise ValueError(f"label maps are placed in a letterbox, not by '{preprocessing.geometry}'")
    where = placement(width, height, preprocessing)
    left, top = (round(offset) for offset in where.offset)
    return left, top, left + round(width * where.scale[0]), top + round(height * where.scale[1])


def _resized(labels: Labels, width: int, height: int) -> Labels:
    return np.array(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))
