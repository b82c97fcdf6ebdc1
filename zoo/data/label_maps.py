"""Label maps: PNGs whose pixel values are classes, beside the images that they describe.

Pillow and numpy are imported inside functions: naming a layout of label maps costs neither.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.config import Dataset
from zoo.data import image_files
from zoo.data.contents import Contents, Sample
from zoo.data.summary import DatasetSummary, few
from zoo.errors import DatasetError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IGNORED = 255  # the value of pixels that count neither in training nor in the metric
MODES = ("P", "L")  # Pillow's of 8-bit palette indices and grey


@dataclass(frozen=True)
class LabelledImages:
    """One split: its images, and of each the label map of the same size."""

    files: tuple[Path, ...]
    labels: tuple[Path, ...]


def read_labels(file: Path, num_classes: int) -> "NDArray[np.uint8]":
    """The classes of an image's pixels (H, W), 255 where they are to be ignored.

    Raises DatasetError naming the file where it is no image of 8-bit grey or palette indices, or has a value that is
    neither a class nor 255.
    """
    return _read(file, num_classes)[0]


def classes_in(file: Path, num_classes: int) -> frozenset[int]:
    """The classes that a label map has a pixel of; raises DatasetError as ``read_labels`` does."""
    return _read(file, num_classes)[1]


def _read(file: Path, num_classes: int) -> "tuple[NDArray[np.uint8], frozenset[int]]":
    import numpy as np

    picture = image_files.loaded(file)
    require_mode(file, picture.mode)
    values = np.array(picture)
    found = np.bincount(values.ravel(), minlength=IGNORED + 1).nonzero()[0].tolist()
    unknown = [str(value) for value in found if num_classes <= value != IGNORED]
    if unknown:
        raise DatasetError(
            f"{file}: label {few(unknown)} where there are {num_classes} classes, from 0, "
            f"and {IGNORED} for what to ignore; correct it or num_classes"
        )
    return values, frozenset(found) - {IGNORED}


def contents(
    dataset: Dataset,
    pairs: Mapping[str, Sequence[tuple[Path, Path]]],
    problems: Iterable[str],
    layout: str,
    lists: Iterable[Path] = (),
) -> Contents:
    """Images with their label maps, by split, as a layout found them."""
    return Contents(
        layout,
        dataset.labels or tuple(str(index) for index in range(dataset.num_classes)),
        {split: [Sample(image, label) for image, label in each] for split, each in pairs.items()},
        tuple(problems),
        indexes=tuple(lists),
    )


def kept(pairs: Sequence[tuple[Path, Path]], root: Path, summary: DatasetSummary, split: str) -> LabelledImages:
    """The pairs of a split but for those skipped; raises DatasetError where they are not as many as they were."""
    skipped = {root / name for name in summary.skipped}
    left = [pair for pair in pairs if pair[0] not in skipped]
    if len(left) != summary.counts[split]:
        raise DatasetError(
            f"{root}: {len(left)} images of {split} where dataset.json says {summary.counts[split]}; "
            "build the data step again"
        )
    return LabelledImages(tuple(image for image, _ in left), tuple(label for _, label in left))


def require_mode(file: Path, mode: str) -> None:
    """Raises DatasetError where Pillow's mode is not one of label maps."""
    if mode not in MODES:
        raise DatasetError(
            f"{file}: an image of mode {mode} where labels are 8-bit palette indices or grey; save it as such"
        )
