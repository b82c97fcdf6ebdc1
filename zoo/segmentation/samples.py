"""Images and their label maps on disk as samples for training and measuring."""

import random
from typing import Literal

from PIL import Image
from torch import Tensor

from zoo.config import Preprocessing
from zoo.data.label_maps import LabelledImages, read_labels
from zoo.errors import DatasetError
from zoo.preprocess import fitted, to_pixels
from zoo.segmentation.augmentation import scale_crop_flip, shift
from zoo.segmentation.placing import Labels, placed
from zoo.training.images import CACHE_BYTES, Draw, Samples, decoded


class LabelledSet(Samples):
    """Images of one split, as pixels (3, size, size) and classes (size, size), both uint8, 255 where ignored.

    What is random depends on the seed, the epoch and the index alone.
    """

    def __init__(
        self,
        images: LabelledImages,
        num_classes: int,
        preprocessing: Preprocessing,
        augmentation: Literal["none", "shift", "crop_flip"] = "none",
        seed: int = 0,
    ) -> None:
        self.images = images
        self.num_classes = num_classes
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.seed = seed
        fits = len(images.files) * 4 * preprocessing.size**2 <= CACHE_BYTES
        self.kept: dict[int, tuple[Tensor, Tensor]] | None = {} if fits and augmentation != "crop_flip" else None

    def __len__(self) -> int:
        return len(self.images.files)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """Raises DatasetError naming the file where an image or its label map cannot be read, or they do not match."""
        epoch, index = draw
        rng = random.Random(f"{self.seed}/{epoch}/{index}")
        if self.augmentation == "crop_flip":
            return scale_crop_flip(*self._read(index), self.preprocessing, rng)
        pixels, labels = self._prepared(index)
        return shift(pixels, labels, rng) if self.augmentation == "shift" else (pixels, labels)

    def _prepared(self, index: int) -> tuple[Tensor, Tensor]:
        if self.kept is not None and index in self.kept:
            return self.kept[index]
        image, labels = self._read(index)
        sample = to_pixels(fitted(image, self.preprocessing)), placed(labels, self.preprocessing)
        if self.kept is not None:
            self.kept[index] = sample
        return sample

    def _read(self, index: int) -> tuple[Image.Image, Labels]:
        file = self.images.labels[index]
        image, labels = decoded(self.images.files[index]), read_labels(file, self.num_classes)
        if labels.shape != (image.height, image.width):
            raise DatasetError(
                f"{file}: {labels.shape[1]}x{labels.shape[0]} where its image is {image.width}x{image.height}; "
                "replace it, or build the data step again"
            )
        return image, labels
