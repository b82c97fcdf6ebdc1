"""Images changed one by one: colours and shapes by a published policy, then rectangles erased.

The policies are torchvision's: AutoAugment (Cubuk et al. 2019, that of ImageNet), RandAugment (Cubuk et al. 2020, two
changes of magnitude 9 of 31) and TrivialAugment (Mueller and Hutter 2021, its wide ranges).
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from zoo.config import Preprocessing
from zoo.schedule import Schedule
from zoo.training.images import Draw, Samples
from zoo.training.seeding import seeded

Change = Callable[[Tensor], Tensor]  # pixels (3, H, W) of uint8 to such
CLASSES = {"autoaugment": "AutoAugment", "randaugment": "RandAugment", "trivialaugment": "TrivialAugmentWide"}


class Altered(Samples):
    """The images of a set after its own augmentation, each through the changes; their labels stay.

    What is drawn depends on the seed, the epoch and the index alone.
    """

    def __init__(self, images: Samples, changes: Sequence[Change]) -> None:
        self.images = images
        self.changes = changes
        self.seed = images.seed
        self.kept = images.kept

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int]:
        pixels, label = self.images[draw]
        with seeded(self.seed, *draw):
            for change in self.changes:
                pixels = change(pixels)
        return pixels, label


def altered(images: Samples, schedule: Schedule, preprocessing: Preprocessing) -> Samples:
    """The set as the schedule's policy and random erasing alter it: itself where it has neither."""
    changes = [*_policy(schedule), *_erasing(schedule, preprocessing)]
    return Altered(images, changes) if changes else images


def _policy(schedule: Schedule) -> list[Change]:
    if schedule.policy == "none":
        return []
    from torchvision.transforms import v2  # takes a second

    return [getattr(v2, CLASSES[schedule.policy])(interpolation=v2.InterpolationMode.BILINEAR)]


def _erasing(schedule: Schedule, preprocessing: Preprocessing) -> list[Change]:
    """A rectangle becomes the mean colour, which is 0 once normalised (Zhong et al. 2020)."""
    if not schedule.random_erasing:
        return []
    from torchvision.transforms import v2

    return [v2.RandomErasing(schedule.random_erasing, value=[float(round(255 * mean)) for mean in preprocessing.mean])]
