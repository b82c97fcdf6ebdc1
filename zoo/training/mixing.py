"""Images of a batch mixed with each other: blended (mixup, Zhang et al. 2018) or pasted (cutmix, Yun et al. 2019).

Their labels become shares of classes. Mixing is done where a batch is put together, before it is sent to the
accelerator; of a batch that is split over devices, each device's share is mixed within itself.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from zoo.schedule import Schedule
from zoo.training.images import Draw, Samples
from zoo.training.seeding import seeded

Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # uint8 (N, 3, H, W), classes (N,) to such, shares (N, classes)


class Mixed(Samples):
    """The images of a set, labelled by the share of each class (classes,), which are mixed where a batch is asked for.

    Each batch is mixed in one of the ways, with one share; what is drawn depends on the seed, the epoch and the index
    of its first image alone.
    """

    def __init__(self, images: Samples, ways: Sequence[Mix]) -> None:
        self.images = images
        self.ways = ways
        self.seed = images.seed
        self.kept = images.kept

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """One image, which is mixed with itself."""
        return self.__getitems__([draw])[0]

    def __getitems__(self, draws: Sequence[Draw]) -> list[tuple[Tensor, Tensor]]:
        """What a DataLoader asks for in place of single samples where there is such a method."""
        samples = [self.images[draw] for draw in draws]
        pixels = torch.stack([image for image, _ in samples])
        classes = torch.tensor([label for _, label in samples])
        with seeded(self.seed, *draws[0], "batch"):
            way = self.ways[int(torch.randint(len(self.ways), ()))]
            mixed, shares = way(pixels, classes)
        return list(zip(mixed, shares, strict=True))


def mixed(images: Samples, schedule: Schedule, num_classes: int) -> Samples:
    """The set with its batches mixed as the schedule says: itself where it does not."""
    ways = [*_blending(schedule, num_classes), *_pasting(schedule, num_classes)]
    return Mixed(images, ways) if ways else images


def _blending(schedule: Schedule, num_classes: int) -> list[Mix]:
    if not schedule.mixup:
        return []
    from torchvision.transforms import v2  # takes a second

    blend = v2.MixUp(alpha=schedule.mixup, num_classes=num_classes)

    def rounded(pixels: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        blended, shares = blend(pixels.float(), classes)
        return blended.round().to(torch.uint8), shares

    return [rounded]


def _pasting(schedule: Schedule, num_classes: int) -> list[Mix]:
    if not schedule.cutmix:
        return []
    from torchvision.transforms import v2

    return [v2.CutMix(alpha=schedule.cutmix, num_classes=num_classes)]
