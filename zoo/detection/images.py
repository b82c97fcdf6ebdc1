"""Images with boxes as the loaders of zoo.training.images read them: pixels, and as many rows of targets for each."""

import random
from typing import Literal

import torch
from torch import Tensor

from zoo.config import Preprocessing
from zoo.detection.augmentation import scale_flip, seen, shift
from zoo.detection.placing import into_input
from zoo.layouts.coco import Images
from zoo.preprocess import fitted, placement, to_pixels
from zoo.training.images import CACHE_BYTES, Draw, Samples, decoded

NOTHING = -1.0  # the class of a row that is not a target


class DetectionSet(Samples):
    """Images of one split, as pixels (3, size, size) of uint8 in their letterbox, and targets (most, 5).

    A target is a class and the corners x1, y1, x2, y2 of its box in pixels of the input. The rows that an image does
    not need are of the class NOTHING. Boxes around crowds are no targets.
    """

    def __init__(
        self,
        images: Images,
        preprocessing: Preprocessing,
        augmentation: Literal["none", "shift", "crop_flip"] = "none",
        seed: int = 0,
    ) -> None:
        self.images = images
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.seed = seed
        self.most = max((len(boxes) for boxes in images.boxes), default=0)
        fits = len(images.files) * 3 * preprocessing.size**2 <= CACHE_BYTES
        self.kept: dict[int, Tensor] | None = {} if fits and augmentation != "crop_flip" else None

    def __len__(self) -> int:
        return len(self.images.files)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """Raises DatasetError naming the file where it is not an image."""
        epoch, index = draw
        rng = random.Random(f"{self.seed}/{epoch}/{index}")
        classes, boxes = self._objects(index)
        if self.augmentation == "crop_flip":
            image, boxes = scale_flip(decoded(self.images.files[index]), boxes, self.preprocessing, rng)
            return to_pixels(image), self._rows(classes, boxes)
        pixels = self._prepared(index)
        boxes = into_input(boxes, placement(*self.images.sizes[index], self.preprocessing))
        if self.augmentation == "shift":
            pixels, boxes = shift(pixels, boxes, rng)
        return pixels, self._rows(classes, boxes)

    def _objects(self, index: int) -> tuple[Tensor, Tensor]:
        """Classes (K,) and boxes (K, 4) in pixels of the image."""
        single = ~torch.tensor(self.images.crowds[index], dtype=torch.bool)
        classes = torch.tensor(self.images.classes[index], dtype=torch.float32)
        boxes = torch.tensor(self.images.boxes[index], dtype=torch.float32).reshape(-1, 4)
        return classes[single], boxes[single]

    def _rows(self, classes: Tensor, boxes: Tensor) -> Tensor:
        if self.augmentation != "none":
            boxes, enough = seen(boxes, self.preprocessing.size)
            classes, boxes = classes[enough], boxes[enough]
        rows = torch.full((self.most, 5), NOTHING)
        rows[: len(classes)] = torch.cat([classes[:, None], boxes], 1)
        return rows

    def _prepared(self, index: int) -> Tensor:
        if self.kept is not None and index in self.kept:
            return self.kept[index]
        pixels = to_pixels(fitted(decoded(self.images.files[index]), self.preprocessing))
        if self.kept is not None:
            self.kept[index] = pixels
        return pixels
