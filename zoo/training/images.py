"""Labelled images on disk as batches of uint8 pixels, in a reproducible order and with reproducible augmentation.

What is random depends on the seed, the epoch and the image's index alone: it is the same after a resume, in whichever
process an image is decoded, and for whatever else has drawn random numbers.
"""

import contextlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from zoo.config import Preprocessing
from zoo.data.image_files import loaded
from zoo.errors import DatasetError
from zoo.layouts.imagefolder import Images
from zoo.preprocess import fitted, to_pixels, to_rgb
from zoo.training import devices
from zoo.training.augmentation import crop_flip, shift

CACHE_BYTES = 512 * 2**20  # a set whose decoded pixels take no more is decoded once and kept

Draw = tuple[int, int]  # epoch, index
Batch = tuple[Tensor, Tensor]  # uint8 (N, 3, size, size) in channels_last; classes (N,) or label maps (N, size, size)


class Samples(Dataset[tuple[Tensor, Any]]):
    """What the loaders below read: by epoch and index, pixels (3, size, size) of uint8 and what they are labelled."""

    metainfo: dict[str, str] = {}  # noqa: RUF012 (the runner asks every dataset for it and never writes)
    seed: int
    kept: dict[int, Any] | None  # by index; none: each is decoded whenever it is asked for

    def __len__(self) -> int:
        raise NotImplementedError


class ImageSet(Samples):
    """Images of one split, as pixels (3, size, size) of uint8 and a class."""

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
        fits = len(images.files) * 3 * preprocessing.size**2 <= CACHE_BYTES
        self.kept: dict[int, Tensor] | None = {} if fits and augmentation != "crop_flip" else None

    def __len__(self) -> int:
        return len(self.images.files)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int]:
        """Raises DatasetError naming the file where it is not an image."""
        epoch, index = draw
        rng = random.Random(f"{self.seed}/{epoch}/{index}")
        if self.augmentation == "crop_flip":
            pixels = to_pixels(crop_flip(decoded(self.images.files[index]), self.preprocessing, rng))
        else:
            pixels = self._prepared(index)
            if self.augmentation == "shift":
                pixels = shift(pixels, rng)
        return pixels, self.images.classes[index]

    def _prepared(self, index: int) -> Tensor:
        if self.kept is not None and index in self.kept:
            return self.kept[index]
        pixels = to_pixels(fitted(decoded(self.images.files[index]), self.preprocessing))
        if self.kept is not None:
            self.kept[index] = pixels
        return pixels


class Shuffled(Sampler[Draw]):
    """Every index once, in an order that depends on the seed and on the epoch that the runner sets.

    Of several devices, each has its share of every batch that is full: the first one the first images of it, and so on.
    """

    def __init__(self, length: int, seed: int, batch_size: int = 1, device: int = 0, devices: int = 1) -> None:
        self.length = length
        self.seed = seed
        self.batch_size = batch_size
        self.device = device
        self.devices = devices
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        if self.devices == 1:
            return self.length
        return self.length // self.batch_size * self.batch_size // self.devices

    def __iter__(self) -> Iterator[Draw]:
        order = list(range(self.length))
        random.Random(f"{self.seed}/{self.epoch}").shuffle(order)
        return iter([(self.epoch, index) for index in self._share(order)])

    def _share(self, order: list[int]) -> list[int]:
        if self.devices == 1:
            return order
        own, full = self.batch_size // self.devices, self.length // self.batch_size * self.batch_size
        starts = range(self.device * own, full, self.batch_size)
        return [index for start in starts for index in order[start : start + own]]


def training_loader(images: Samples, batch_size: int, workers: int) -> "DataLoader[tuple[Tensor, Any]]":
    """Batches of one epoch, or this device's shares of them where several train together. The last one is left out
    where it is not full: BatchNorm needs more than a few images.

    Raises DatasetError where several devices have less than one batch.
    """
    together = devices.count()
    if together > 1 and len(images) < batch_size:
        raise DatasetError(
            f"{len(images)} training images are less than a batch of {batch_size} on {together} devices; "
            "lower the schedule's batch_size, or train on one device"
        )
    return _loader(
        images,
        Shuffled(len(images), images.seed, batch_size, devices.rank(), together),
        batch_size // together,
        workers=0 if images.kept is not None else workers,
        drop_last=len(images) > batch_size,
    )


def batches(images: Samples, batch_size: int, indices: Sequence[int] | None = None) -> Iterator[Batch]:
    """The images in order, or those of ``indices``; a set too large to keep is read by one process for each thread.

    Raises DatasetError naming a file that is not an image.
    """
    draws = [(0, index) for index in (range(len(images)) if indices is None else indices)]
    workers = 0 if images.kept is not None or len(draws) <= batch_size else torch.get_num_threads()
    with one_line_errors():
        yield from _loader(images, draws, batch_size, workers=workers, drop_last=False)


def decoded(file: Path) -> Image.Image:
    """The image in a file, as RGB; raises DatasetError naming the file where there is none or it is damaged."""
    return to_rgb(loaded(file))


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """A DatasetError of a data-loading process arrives with its traceback as text: its last line is the error."""
    try:
        yield
    except DatasetError as error:
        lines = str(error).strip().splitlines()
        if len(lines) == 1:
            raise
        raise DatasetError(lines[-1].removeprefix("zoo.errors.DatasetError: ")) from None


def _loader(
    images: Samples, draws: "Sampler[Draw] | Sequence[Draw]", batch_size: int, *, workers: int, drop_last: bool
) -> "DataLoader[tuple[Tensor, Any]]":
    return DataLoader(
        images,
        batch_size=batch_size,
        sampler=draws,
        num_workers=workers,
        collate_fn=_collated,
        drop_last=drop_last,
        multiprocessing_context="fork" if workers else None,  # not forkserver: it would pickle the set to each process
        persistent_workers=False,
    )


def _collated(samples: list[tuple[Tensor, Any]]) -> Batch:
    pixels = torch.stack([pixels for pixels, _ in samples]).contiguous(memory_format=torch.channels_last)
    return pixels, default_collate([label for _, label in samples])
