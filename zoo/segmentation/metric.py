"""Intersection over union and pixel accuracy from one confusion matrix over all images."""

import torch
from torch import Tensor

from zoo.data.label_maps import IGNORED


def confusion(truth: Tensor, found: Tensor, num_classes: int) -> Tensor:
    """How many pixels of each class (rows) were taken for each (columns): int64 (num_classes, num_classes).

    ``truth`` and ``found`` are classes of any one shape; pixels whose truth is 255 are not counted.
    """
    counted = truth != IGNORED
    pairs = truth[counted].long() * num_classes + found[counted].long()
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


def class_iou(matrix: Tensor) -> Tensor:
    """Intersection over union of each class, float64; NaN for those in neither truth nor prediction.

    Of the pixels that are of the class or taken for it, the share that are both (Everingham et al. 2010).
    """
    right = matrix.diagonal().double()
    return right / (matrix.sum(0) + matrix.sum(1) - right)


def mean_iou(matrix: Tensor) -> float:
    """The mean of `class_iou` over the classes that occur: those in neither truth nor prediction are left out.

    A class that is only predicted counts, with 0. NaN where no pixel was counted.
    """
    return float(class_iou(matrix).nanmean())


def pixel_accuracy(matrix: Tensor) -> float:
    """The share of pixels whose class was found; NaN where no pixel was counted."""
    return float(matrix.diagonal().sum().double() / matrix.sum())
