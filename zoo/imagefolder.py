"""The ImageFolder layout, ``<split>/<class>/<image>``: what is in it, and whether it is what its config says.

Needs neither torch nor an image library.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from zoo.config import Config, Dataset, Name, Positive, Rgb
from zoo.errors import DatasetError

SPLITS = ("train", "val")
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
SUMMARY = "dataset.json"


class DatasetSummary(Config):
    """What the data step found or made: ``dataset.json``."""

    name: Name
    task: str
    layout: str
    root: str  # absolute, or "." where the images lie beside this file
    num_classes: Positive
    labels: Annotated[tuple[str, ...], Field(strict=False)]  # sorted; the index is the class
    counts: dict[str, Positive]  # images by split
    mean: Rgb
    std: Rgb
    digest: str  # SHA-256 over sorted lines "relative path\0what digest_of says\n"
    digest_of: Literal["paths and contents", "paths and sizes"]  # sizes, in bytes, where hashing would take hours


@dataclass(frozen=True)
class Images:
    """One split: its files in sorted order, and each one's class."""

    files: tuple[Path, ...]
    classes: tuple[int, ...]


def summarise(name: str, dataset: Dataset, root: Path, *, inside: bool) -> DatasetSummary:
    """What is under ``root``; ``inside``: generated, small, and described from its own folder.

    Raises DatasetError naming everything that is missing.
    """
    labels, files = _verified(name, dataset, root)
    lines = [
        f"{file.relative_to(root).as_posix()}\0{_content_digest(file) if inside else file.stat().st_size}\n"
        for split in SPLITS
        for file in files[split]
    ]
    return DatasetSummary(
        name=name,
        task=dataset.task,
        layout=dataset.layout,
        root="." if inside else str(root.resolve()),
        num_classes=dataset.num_classes,
        labels=tuple(labels),
        counts={split: len(files[split]) for split in SPLITS},
        mean=dataset.mean,
        std=dataset.std,
        digest=hashlib.sha256("".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest(),
        digest_of="paths and contents" if inside else "paths and sizes",
    )


def read_summary(folder: Path) -> DatasetSummary:
    """The summary that the data step left in ``folder``; raises DatasetError where there is none."""
    try:
        return DatasetSummary.model_validate(json.loads((folder / SUMMARY).read_text("utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        fact = " ".join(str(error).split())[:200]
        raise DatasetError(f"{folder / SUMMARY}: cannot be read: {fact}; build the data step again") from error


def images(folder: Path, summary: DatasetSummary, split: str) -> Images:
    """The images of a split of the dataset that ``summary``, read from ``folder``, describes."""
    root = folder / summary.root
    files = [(file, index) for index, label in enumerate(summary.labels) for file in _images(root / split / label)]
    if len(files) != summary.counts[split]:
        raise DatasetError(
            f"{root / split}: {len(files)} images where dataset.json says {summary.counts[split]}; "
            "build the data step again"
        )
    return Images(tuple(file for file, _ in files), tuple(index for _, index in files))


def expanded_root(name: str, dataset: Dataset) -> Path:
    """The dataset's ``root`` with its $VARIABLES; raises DatasetError where one is not set or nothing is there."""
    root = os.path.expandvars(dataset.root or "")
    config = f"configs/datasets/{name}.yaml"
    if dataset.root and not root:
        raise DatasetError(f"{config}: root: {dataset.root} is empty; set it to the folder that holds train/ and val/")
    if not root:
        raise DatasetError(f"{config}: neither a generator nor a root; give one of the two")
    if "$" in root:
        raise DatasetError(f"{config}: root: {root} is not set; export it as the folder that holds train/ and val/")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; put {name} there or change root in {config}")
    return folder


def _verified(name: str, dataset: Dataset, root: Path) -> tuple[list[str], dict[str, list[Path]]]:
    """The labels and the files of each split, in the order of the labels; all problems at once."""
    problems: list[str] = []
    labels: dict[str, list[str]] = {}
    files: dict[str, list[Path]] = {}
    for split in SPLITS:
        folder = root / split
        if not folder.is_dir():
            problems.append(f"{split}/ is missing")
            continue
        labels[split] = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        files[split] = []
        if len(labels[split]) != dataset.num_classes:
            problems.append(f"{split}/ has {len(labels[split])} classes, expected {dataset.num_classes}")
        empty = []
        for label in labels[split]:
            found = _images(folder / label)
            files[split] += found
            if not found:
                empty.append(label)
        if empty:
            problems.append(f"{split}/ has no image of {_few(empty)}")
    if len(labels) == len(SPLITS) and labels["train"] != labels["val"]:
        problems.append(f"train/ and val/ differ in {_few(sorted({*labels['train']} ^ {*labels['val']}))}")
    if problems:
        raise DatasetError(
            f"{root}: not a whole {name}: {', '.join(problems)}; expected {root}/<train|val>/<class>/<image>, "
            "see the homepage in its config"
        )
    return labels["train"], files


def _images(folder: Path) -> list[Path]:
    """The image files right in a class's folder, sorted."""
    try:
        with os.scandir(folder) as entries:
            found = [entry.name for entry in entries if Path(entry.name).suffix.lower() in SUFFIXES and entry.is_file()]
    except FileNotFoundError:
        return []
    return [folder / name for name in sorted(found)]


def _content_digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more classes" if len(names) > 3 else "")
