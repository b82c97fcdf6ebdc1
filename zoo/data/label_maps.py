"""Label maps: PNGs whose pixel values are classes, beside the images that they describe.

Pillow and numpy are imported inside functions: naming a layout of label maps costs neither.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.config import Dataset
from zoo.data import image_files
from zoo.data.summary import DatasetSummary, described, few
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
    import numpy as np

    picture = image_files.loaded(file)
    _require_mode(file, picture.mode)
    values = np.array(picture)
    unknown = np.unique(values[(values >= num_classes) & (values != IGNORED)]).tolist()
    if unknown:
        raise DatasetError(
            f"{file}: label {few([str(value) for value in unknown])} where there are {num_classes} classes, from 0, "
            f"and {IGNORED} for what to ignore; correct it or num_classes"
        )
    return values


def summarise(
    name: str,
    dataset: Dataset,
    root: Path,
    pairs: Mapping[str, Sequence[tuple[Path, Path]]],
    problems: Iterable[str],
    *,
    inside: bool,
    expected: str,
    indexes: Iterable[Path] = (),
) -> DatasetSummary:
    """The summary of images and label maps, by split; ``problems`` are what the layout found wrong already.

    A label map that is missing, of another size than its image or no map of indices is found from the files' headers;
    with ``corrupt: skip`` all are decoded, and pairs that are wrong in any way are left out. Raises DatasetError saying
    all at once.
    """
    faults = {
        image: fault
        for split in pairs.values()
        for image, label in split
        if (fault := _fault(image, label, root, dataset))
    }
    found = [*problems]
    if faults and dataset.corrupt == "refuse":
        found.append(few(list(faults.values()), "such") + " (corrupt: skip in its config leaves them out)")
    kept = {split: [pair for pair in each if pair[0] not in faults] for split, each in pairs.items()}
    found += [f"no image of {split} is whole" for split, each in kept.items() if pairs[split] and not each]
    if found:
        raise DatasetError(f"{root}: not a whole {name}: {', '.join(found)}; expected {expected}")
    return described(
        name,
        dataset,
        root,
        dataset.labels or [str(index) for index in range(dataset.num_classes)],
        {split: len(each) for split, each in kept.items()},
        [file for each in kept.values() for pair in each for file in pair],
        inside=inside,
        indexes=indexes,
        skipped=[image.relative_to(root).as_posix() for image in faults],
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


def _fault(image: Path, label: Path, root: Path, dataset: Dataset) -> str:
    """What is wrong with an image or its label map, or nothing."""
    names = image.relative_to(root).as_posix(), label.relative_to(root).as_posix()
    if not os.path.isfile(image):  # noqa: PTH113 - Path.is_file raises where a name is too long for the disk
        return f"{names[0]} is missing"
    if not os.path.isfile(label):  # noqa: PTH113
        return f"{names[0]} has no {names[1]}"
    try:
        size, (label_size, mode) = image_files.size(image), image_files.header(label)
        if size != label_size:
            return f"{names[1]} is {_shown(label_size)} and its image {_shown(size)}"
        _require_mode(label, mode)
        if dataset.corrupt == "skip":
            image_files.loaded(image)
            read_labels(label, dataset.num_classes)
    except DatasetError as error:
        return str(error).removeprefix(f"{root}/").rpartition(";")[0]
    return ""


def _require_mode(file: Path, mode: str) -> None:
    if mode not in MODES:
        raise DatasetError(
            f"{file}: an image of mode {mode} where labels are 8-bit palette indices or grey; save it as such"
        )


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
