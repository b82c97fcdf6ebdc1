"""The ImageFolder layout, ``<split>/<class>/<image>``: what is in it, and whether it is what its config says."""

from dataclasses import dataclass
from pathlib import Path

from zoo.config import Dataset
from zoo.data import image_files
from zoo.data.summary import SPLITS, DatasetSummary, described, few
from zoo.errors import DatasetError

TASK = "classification"
NAMES_CLASSES = True  # by their folders, sorted
INDEXES = ()


@dataclass(frozen=True)
class Images:
    """One split: its files in sorted order, and each one's class."""

    files: tuple[Path, ...]
    classes: tuple[int, ...]


def summarise(name: str, dataset: Dataset, root: Path, *, inside: bool) -> DatasetSummary:
    """What is under ``root``; ``inside``: generated, small, and described from its own folder.

    With ``corrupt: skip`` every image is decoded, and those that cannot be are left out. Raises DatasetError naming
    everything that is missing.
    """
    labels, files, skipped = _verified(name, dataset, root)
    return described(
        name,
        dataset,
        root,
        labels,
        {split: len(files[split]) for split in SPLITS},
        [file for split in SPLITS for file in files[split]],
        inside=inside,
        skipped=skipped,
    )


def images(folder: Path, summary: DatasetSummary, split: str) -> Images:
    """The images of a split of the dataset that ``summary``, read from ``folder``, describes."""
    root = folder / summary.root
    skipped = {root / name for name in summary.skipped}
    files = [
        (file, index)
        for index, label in enumerate(summary.labels)
        for file in image_files.found(root / split / label)
        if file not in skipped
    ]
    if len(files) != summary.counts[split]:
        raise DatasetError(
            f"{root / split}: {len(files)} images where dataset.json says {summary.counts[split]}; "
            "build the data step again"
        )
    return Images(tuple(file for file, _ in files), tuple(index for _, index in files))


def _verified(name: str, dataset: Dataset, root: Path) -> tuple[list[str], dict[str, list[Path]], list[str]]:
    """The labels, the files of each split in the order of the labels, and what is skipped; all problems at once."""
    problems: list[str] = []
    labels: dict[str, list[str]] = {}
    files: dict[str, list[Path]] = {}
    skipped: list[str] = []
    for split in SPLITS:
        folder = root / split
        if not folder.is_dir():
            problems.append(f"{split}/ is missing")
            continue
        labels[split] = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        files[split] = []
        if len(labels[split]) != dataset.num_classes:
            problems.append(f"{split}/ has {len(labels[split])} classes, expected {dataset.num_classes}")
        empty = []
        for label in labels[split]:
            found = image_files.found(folder / label)
            if dataset.corrupt == "skip":
                whole = [file for file in found if image_files.is_whole(file)]
                skipped += [file.relative_to(root).as_posix() for file in sorted({*found} - {*whole})]
                found = whole
            files[split] += found
            if not found:
                empty.append(label)
        if empty:
            problems.append(f"{split}/ has no image of {few(empty, 'classes')}")
    if len(labels) == len(SPLITS) and labels["train"] != labels["val"]:
        problems.append(f"train/ and val/ differ in {few(sorted({*labels['train']} ^ {*labels['val']}), 'classes')}")
    if problems:
        raise DatasetError(
            f"{root}: not a whole {name}: {', '.join(problems)}; expected {root}/<train|val>/<class>/<image>, "
            "see the homepage in its config"
        )
    return labels["train"], files, skipped
