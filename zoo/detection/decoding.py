"""From a detector's predictions to boxes and scores: fixed shapes, constant priors, nothing that depends on data."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.detection.heads import Head, head_of


class Decoded(nn.Module):
    """A detector that gives boxes and scores in place of predictions; no box is left out.

    Maps model inputs (N, 3, size, size) to boxes (N, A, 4), corners x1, y1, x2, y2 in pixels of the input, which they
    may exceed, and scores (N, A, classes), probabilities. A is the number of all levels' positions. The detector must
    be in eval mode. Shares the detector with its caller.

    Raises StepError where the detector's head is not known, or does not fit the size.
    """

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network = network
        self.size = size
        self.decoder = Decoder(head_of(network), size)
        self.decoder.to(next(network.parameters()).device)
        self.train(network.training)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Raises ValueError for images of another size than the detector was made for."""
        if tuple(images.shape[-2:]) != (self.size, self.size):
            height, width = images.shape[-2:]
            raise ValueError(f"images of {height}x{width} pixels, the detector takes {self.size}x{self.size}")
        boxes, scores = self.decoder(self.network(images))
        return boxes, scores


class Decoder(nn.Module):
    """What the head gives for each level, to boxes (N, A, 4) and scores (N, A, classes); see Decoded."""

    centres: Tensor  # (A, 2), x and y in pixels
    scales: Tensor  # (A, 2): what widths and heights, or distances, are predicted in, in pixels
    strides: Tensor  # (A, 1) in pixels

    def __init__(self, head: Head, size: int) -> None:
        super().__init__()
        self.head = head
        cells = head.cells(size)
        self.joined = nn.ModuleList(Joined() for _ in cells) if head.family.name == "yolox" else None
        self.register_buffer("centres", torch.cat([_centres(head, level, n) for level, n in enumerate(cells)]), False)
        self.register_buffer("strides", torch.cat([_strides(head, level, n) for level, n in enumerate(cells)]), False)
        self.register_buffer("scales", torch.cat([_scales(head, level, n) for level, n in enumerate(cells)]), False)

    def forward(self, predictions: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Tensor]:
        """``predictions`` by kind (classes, boxes and, where the head has one, objectness), then by level."""
        if self.joined is not None:
            levels = [join(*level) for join, level in zip(self.joined, zip(*predictions, strict=True), strict=True)]
            numbers = [4, 1, self.head.num_classes]
            boxes, objectness, classes = torch.split(_positions(levels, sum(numbers)), numbers, 2)
            return self._boxes(boxes), classes * objectness
        scores = _positions(predictions[0], self.head.num_classes).sigmoid()
        if self.head.family.objectness:
            scores = scores * _positions(predictions[2], 1).sigmoid()
        return self._boxes(_positions(predictions[1], 4)), scores

    def _boxes(self, encoded: Tensor) -> Tensor:
        """Corners in pixels from the four numbers of each position (N, A, 4).

        YOLOX (Ge et al. 2021): the centre's distance from the position in strides, the logarithm of the size in
        strides. YOLOv5 and v7: p = sigmoid of each; the centre lies 2p - 1 strides from the position, the size is
        4 p^2 times the anchor's. All others (FCOS, Tian et al. 2019): distances in strides from the position to the
        left, top, right and bottom side.
        """
        first, second = torch.split(encoded, 2, 2)
        if self.head.family.encoding == "distances":
            return torch.cat([self.centres - first * self.scales, self.centres + second * self.scales], 2)
        if self.head.family.encoding == "anchors":
            centre = (first.sigmoid() * 2 - 1) * self.strides + self.centres
            half = (second.sigmoid() * 2).square() * self.scales / 2
        else:
            centre = first * self.strides + self.centres
            half = second.exp() * self.scales / 2
        return torch.cat([centre - half, centre + half], 2)


class Joined(nn.Module):
    """One level's predictions of YOLOX as one tensor, which runtimes that decode by themselves look for."""

    def forward(self, classes: Tensor, boxes: Tensor, objectness: Tensor) -> Tensor:
        """(N, 4 + 1 + classes, H, W): boxes as predicted, then probabilities."""
        return torch.cat([boxes, objectness.sigmoid(), classes.sigmoid()], 1)


def _positions(levels: Sequence[Tensor], numbers: int) -> Tensor:
    """Levels (N, anchors * numbers, H, W) as (N, A, numbers)."""
    rows = [
        level.permute(0, 2, 3, 1).reshape(level.shape[0], math.prod(level.shape[1:]) // numbers, numbers)
        for level in levels
    ]
    return torch.cat(rows, 1)


def _centres(head: Head, level: int, cells: int) -> Tensor:
    """x and y in pixels of a level's positions (cells * cells * anchors, 2)."""
    along = (torch.arange(cells) + head.offset) * head.strides[level]
    y, x = torch.meshgrid(along, along, indexing="ij")
    return torch.stack([x, y], 2).reshape(-1, 2).repeat_interleave(head.anchors_per_cell, 0)


def _strides(head: Head, level: int, cells: int) -> Tensor:
    return torch.full((cells * cells * head.anchors_per_cell, 1), float(head.strides[level]))


def _scales(head: Head, level: int, cells: int) -> Tensor:
    """What a level's sizes are multiplied with (cells * cells * anchors, 2): the anchor's sides, else the stride."""
    if not head.anchors:
        return _strides(head, level, cells).expand(-1, 2).clone()
    return torch.tensor(head.anchors[level]).repeat(cells * cells, 1)
