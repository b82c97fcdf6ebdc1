"""COCO's detection: ``annotations/instances_<split>.json`` and its images in ``<split>/``.

A split may carry COCO's year, as in ``instances_train2017.json`` and ``train2017/``.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zoo.config import Dataset
from zoo.data import coco_json
from zoo.data.coco_json import Annotations, Box, Picture
from zoo.data.contents import Contents, Sample
from zoo.data.summary import SPLITS, DatasetSummary, few, spellings
from zoo.errors import DatasetError

TASK = "detection"
NAMES_CLASSES = True
INDEXES = ("annotations/instances_*.json",)

LAYOUT = "annotations/instances_<train|val>.json and <train|val>/<image>"


@dataclass(frozen=True)
class Images:
    """One split in the order of its annotation file: of each image the file, id, size and objects (maybe none)."""

    files: tuple[Path, ...]
    ids: tuple[int, ...]  # in the annotation file
    sizes: tuple[tuple[int, int], ...]  # width, height
    boxes: tuple[tuple[Box, ...], ...]  # x1, y1, x2, y2 in pixels
    classes: tuple[tuple[int, ...], ...]
    crowds: tuple[tuple[bool, ...], ...]  # whether a box is around many objects, and so not a target
    categories: tuple[int, ...]  # ids in the annotation file by class
    annotations: Path  # the annotation file; unlike the rest of this it still holds what is skipped


def contents(dataset: Dataset, root: Path) -> Contents:
    """What the annotation files under ``root`` say, all of which is looked at; no image is opened.

    A class of which train has no box is wrong, as it cannot be learned, but for ``corrupt: skip``, which may have left
    it so; not all of them. Raises DatasetError where a file is no annotation file at all.
    """
    indexes = {split: _index(root, split) for split in SPLITS}
    missing = [f"{index.relative_to(root).as_posix()} is missing" for index in indexes.values() if not index.is_file()]
    if missing:
        return Contents(LAYOUT, (), {}, tuple(missing))
    read = {split: _read(index) for split, index in indexes.items()}
    entries: dict[str, str] = {}
    for split, index in indexes.items():
        entries |= _of_entries(index, read[split], root)
    return Contents(
        LAYOUT,
        read["train"].labels,
        {
            split: [Sample(_folder(index) / picture.name, size=picture.size) for picture in read[split].pictures]
            for split, index in indexes.items()
        },
        tuple(_of_images(read) + _of_classes(read, dataset)),
        entries,
        tuple(indexes.values()),
    )


def images(folder: Path, summary: DatasetSummary, split: str) -> Images:
    """A split of the dataset that ``summary``, read from ``folder``, describes, without what it skips."""
    root = folder / summary.root
    index = _index(root, split)
    read, skipped = _read(index), {*summary.skipped}
    pictures = [picture for picture in read.pictures if _place(index, picture, root) not in skipped]
    if len(pictures) != summary.counts[split] or not _of_entries(index, read, root).keys() <= skipped:
        raise DatasetError(f"{index}: not what it was when dataset.json was written; build the data step again")
    return Images(
        files=tuple(_folder(index) / picture.name for picture in pictures),
        ids=tuple(picture.id for picture in pictures),
        sizes=tuple(picture.size for picture in pictures),
        boxes=tuple(tuple(picture.boxes) for picture in pictures),
        classes=tuple(tuple(picture.classes) for picture in pictures),
        crowds=tuple(tuple(picture.crowds) for picture in pictures),
        categories=read.categories,
        annotations=index,
    )


def _index(root: Path, split: str) -> Path:
    """The annotation file of a split; by its plain name where there is none."""
    files = [root / "annotations" / f"instances_{spelling}.json" for spelling in spellings(split)]
    return next((file for file in files if file.is_file()), files[0])


def _folder(index: Path) -> Path:
    """Where the images of an annotation file are."""
    return index.parents[1] / index.stem.removeprefix("instances_")


def _read(index: Path) -> Annotations:
    folder = _folder(index)
    return coco_json.read(index, {entry.name for entry in os.scandir(folder)} if folder.is_dir() else ())


def _place(index: Path, picture: Picture, root: Path) -> str:
    return (_folder(index) / picture.name).relative_to(root).as_posix()


def _of_entries(index: Path, read: Annotations, root: Path) -> dict[str, str]:
    """What is wrong in an annotation file, by the entry."""
    file = index.relative_to(root).as_posix()
    return {f"{file}: {entry}": fact for entry, fact in read.faults.items()}


def _of_images(read: Mapping[str, Annotations]) -> list[str]:
    """Splits of which nothing is listed."""
    return [f"no image of {split} is listed" for split, found in read.items() if not (found.pictures or found.faults)]


def _of_classes(read: Mapping[str, Annotations], dataset: Dataset) -> list[str]:
    """What is wrong with the classes."""
    train, val = read["train"], read["val"]
    found = []
    if len(train.labels) != dataset.num_classes:
        found.append(f"{len(train.labels)} categories, expected {dataset.num_classes}")
    if (train.categories, train.labels) != (val.categories, val.labels):
        found.append("the annotations of train and val differ in their categories")
    used = {label for picture in train.pictures for label in picture.classes}
    empty = [label for index, label in enumerate(train.labels) if index not in used]
    if train.labels and len(empty) == len(train.labels):
        found.append("train has no box")
    elif empty and dataset.corrupt == "refuse":
        found.append(f"train has no box of {few(empty, 'classes')} (corrupt: skip in its config allows that)")
    return found
