"""Non-maximum suppression: of boxes of one class that overlap, the best is kept."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Limits:
    """What is kept of a detector's boxes. One with a corner or a score that is no finite number, or beyond ``LARGEST``,
    never is."""

    score: float  # more than this
    iou: float = 0.65  # a box that overlaps a better one of its class by more is dropped
    most: int = 300  # of an image, the best
    candidates: int = 30000  # of an image, the best, that suppression looks at


LARGEST = 1e5  # of a coordinate, in pixels: beyond, float32 has no room for a place for each class
EVALUATION = Limits(score=0.001)  # as mmyolo's detectors are evaluated: mAP counts boxes of any score
PREDICTION = Limits(score=0.25, most=100, candidates=1000)  # what people and devices are shown


@dataclass(frozen=True, eq=False)
class Detections:
    """One image's objects, best first."""

    boxes: Tensor  # (K, 4) corners x1, y1, x2, y2 in pixels
    scores: Tensor  # (K,) probabilities
    labels: Tensor  # (K,) indices of classes


class Candidates(NamedTuple):
    """Boxes of a batch with one class each, best first. A box is there once for each class that it may be of."""

    boxes: Tensor  # (N, K, 4) corners x1, y1, x2, y2 in pixels
    scores: Tensor  # (N, K) probabilities
    labels: Tensor  # (N, K) indices of classes


def candidates(boxes: Tensor, scores: Tensor, most: int = EVALUATION.candidates) -> Candidates:
    """The best pairs of box and class from boxes (N, A, 4) and scores (N, A, classes): all of them, or ``most``."""
    count, classes = min(most, scores[0].numel()), scores.shape[2]
    best, order = scores.flatten(1).topk(count, dim=1)
    place = order.div(classes, rounding_mode="trunc")
    return Candidates(boxes.gather(1, place[..., None].expand(-1, -1, 4)), best, order % classes)


def kept(found: Candidates, limits: Limits) -> list[Detections]:
    """What suppression leaves of each image's candidates."""
    return [_kept(*image, limits) for image in zip(*found, strict=True)]


def detections(boxes: Tensor, scores: Tensor, limits: Limits = EVALUATION) -> list[Detections]:
    """What suppression leaves of each image's boxes (N, A, 4) with scores (N, A, classes)."""
    return kept(candidates(boxes, scores, limits.candidates), limits)


def _kept(boxes: Tensor, scores: Tensor, labels: Tensor, limits: Limits) -> Detections:
    from torchvision.ops import batched_nms

    # COCO's metric takes a box of NaN for a match of any object, and one of infinity would keep all others apart.
    enough = (scores > limits.score) & (scores < LARGEST) & (boxes.abs() < LARGEST).all(1)
    boxes, scores, labels = boxes[enough], scores[enough], labels[enough]
    rows: Tensor = batched_nms(boxes.float(), scores.float(), labels, limits.iou)
    rows = rows[: limits.most]
    return Detections(boxes[rows], scores[rows], labels[rows])


def suppressed(boxes: Tensor, scores: Tensor, limits: Limits = PREDICTION) -> tuple[Tensor, Tensor, Tensor]:
    """The same for one image, (1, A, 4) and (1, A, classes), in shapes that do not depend on data: for export.

    Returns boxes (most, 4), scores (most,) and labels (most,), best first; rows without an object are all zero, and
    their label is -1.
    """
    from torchvision.ops import nms

    found = candidates(boxes, scores, limits.candidates)
    corners, probabilities, labels = found.boxes[0], found.scores[0], found.labels[0]
    # One of infinity or NaN is none, as above.
    usable = (corners.abs() < LARGEST).all(1) & (probabilities.abs() < LARGEST)
    corners, probabilities = torch.where(usable[:, None], corners, 0), torch.where(usable, probabilities, 0)
    # Each class has a place of its own, far from the others, so that boxes of two classes never overlap.
    apart = corners.detach().abs().max() * 2 + 1
    rows = nms(corners + (labels * apart)[:, None], probabilities, limits.iou)
    probabilities = torch.where(probabilities > limits.score, probabilities, 0)
    # Suppression leaves as many rows as it likes: rows of nothing after them make sure that there are enough.
    padded = torch.cat([probabilities[rows], probabilities.new_zeros(limits.most)])
    best, order = padded.topk(limits.most)
    objects = best > 0
    corners = torch.cat([corners[rows], corners.new_zeros(limits.most, 4)])[order]
    labels = torch.cat([labels[rows], labels.new_full((limits.most,), -1)])[order]
    return torch.where(objects[:, None], corners, 0), best, torch.where(objects, labels, -1)
