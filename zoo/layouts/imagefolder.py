"""The ImageFolder layout, ``<split>/<class>/<image>``: what is in it, and whether it is what its config says."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zoo.config import Dataset
from zoo.data import image_files
from zoo.data.contents import Contents, Sample
from zoo.data.summary import SPLITS, DatasetSummary, few
from zoo.errors import DatasetError

TASK = "classification"
NAMES_CLASSES = True  # by their folders, sorted
INDEXES = ()


@dataclass(frozen=True)
class Images:
    """One split: its files in sorted order, and each one's class."""

    files: tuple[Path, ...]
    classes: tuple[int, ...]


def contents(dataset: Dataset, root: Path) -> Contents:
    """What is under ``root``: classes by their folders in train/, and images; none is opened."""
    folders = {split: classes(root / split) for split in SPLITS if (root / split).is_dir()}
    labels = folders.get("train", [])
    problems = [f"{split}/ is missing" for split in SPLITS if split not in folders]
    for split, found in folders.items():
        problems += of_folders(split, found, dataset)
    if len(folders) == len(SPLITS) and folders["val"] != labels:
        problems.append(f"train/ and val/ differ in {few(sorted({*labels} ^ {*folders['val']}), 'classes')}")
    samples = {split: labelled(root / split, labels) for split in folders}
    return Contents("<train|val>/<class>/<image>", tuple(labels), samples, (*problems, *imageless(samples)))


def images(folder: Path, summary: DatasetSummary, split: str) -> Images:
    """The images of a split of the dataset that ``summary``, read from ``folder``, describes."""
    root = folder / summary.root
    return kept(labelled(root / split, summary.labels), root, summary, split)


def classes(folder: Path) -> list[str]:
    """The names of the folders in a split's, sorted."""
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())


def of_folders(split: str, found: list[str], dataset: Dataset) -> list[str]:
    """What is wrong with a split's folders of classes."""
    if len(found) == dataset.num_classes:
        return []
    return [f"{split}/ has {len(found)} classes, expected {dataset.num_classes}"]


def imageless(samples: Mapping[str, list[Sample]]) -> list[str]:
    """Splits that are there and have no image at all."""
    return [f"{split}/ has no image" for split, found in samples.items() if not found]


def labelled(folder: Path, labels: "list[str] | tuple[str, ...]") -> list[Sample]:
    """The images in a split's folders of these classes, in their order."""
    return [
        Sample(file, label=index) for index, label in enumerate(labels) for file in image_files.found(folder / label)
    ]


def kept(samples: list[Sample], root: Path, summary: DatasetSummary, split: str) -> Images:
    """Those that are not skipped; raises DatasetError where they are not as many as they were."""
    skipped = {root / name for name in summary.skipped}
    left = [sample for sample in samples if sample.image not in skipped]
    if len(left) != summary.counts[split]:
        raise DatasetError(
            f"{root / split}: {len(left)} images where dataset.json says {summary.counts[split]}; "
            "build the data step again"
        )
    return Images(tuple(sample.image for sample in left), tuple(sample.label or 0 for sample in left))
