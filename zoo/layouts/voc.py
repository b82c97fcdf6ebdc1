"""PASCAL VOC's segmentation: the folder VOC2012 of its devkit, as it is unpacked; the splits are lists of names.

``JPEGImages/<name>.jpg``, ``SegmentationClass/<name>.png`` (palette indices; 255, the objects' borders, is ignored),
``ImageSets/Segmentation/train.txt`` and ``val.txt``. Where there is a ``trainaug.txt``, of the Semantic Boundaries
Dataset's further annotations, it is what is trained on, with ``SegmentationClassAug/`` in place of
``SegmentationClass/`` for the images that are there.
"""

import os
from collections import Counter
from pathlib import Path

from zoo.config import Dataset
from zoo.data import label_maps
from zoo.data.contents import Contents
from zoo.data.label_maps import LabelledImages
from zoo.data.summary import SPLITS, DatasetSummary, few

TASK = "segmentation"
NAMES_CLASSES = False
INDEXES = ("ImageSets/Segmentation/*.txt",)

AUGMENTED = "trainaug"


def contents(dataset: Dataset, root: Path) -> Contents:
    """What the lists under ``root`` name; no image is opened.

    An image that is in both splits is wrong: it would be validated on what it was trained on.
    """
    pairs = {split: _pairs(root, split) for split in SPLITS}
    problems = [f"{_list(root, split).name} is missing or empty" for split in SPLITS if not pairs[split]]
    if shared := sorted({image.stem for image, _ in pairs["train"]} & {image.stem for image, _ in pairs["val"]}):
        problems.append(f"{few(shared, 'images')} in both {_list(root, 'train').name} and val.txt")
    for split, found in pairs.items():
        if repeated := sorted(image.stem for image, times in Counter(image for image, _ in found).items() if times > 1):
            problems.append(f"{few(repeated, 'images')} more than once in {_list(root, split).name}")
    lists = [file for split in SPLITS if (file := _list(root, split)).is_file()]
    layout = "ImageSets/Segmentation/<train|val>.txt, JPEGImages/<name>.jpg and SegmentationClass/<name>.png"
    return label_maps.contents(dataset, pairs, problems, layout, lists)


def images(folder: Path, summary: DatasetSummary, split: str) -> LabelledImages:
    """The images of a split in the order of its list, and their label maps."""
    root = folder / summary.root
    return label_maps.kept(_pairs(root, split), root, summary, split)


def _list(root: Path, split: str) -> Path:
    folder = root / "ImageSets" / "Segmentation"
    augmented = folder / f"{AUGMENTED}.txt"
    return augmented if split == "train" and augmented.is_file() else folder / f"{split}.txt"


def _pairs(root: Path, split: str) -> list[tuple[Path, Path]]:
    listed = _list(root, split)
    if not listed.is_file():
        return []
    names = listed.read_text("utf-8-sig", "replace").split()  # what is no text names no image, and is said so
    return [(_inside(root, "JPEGImages", f"{name}.jpg"), _labels(root, name, listed.stem)) for name in names]


def _labels(root: Path, name: str, listed: str) -> Path:
    further = _inside(root, "SegmentationClassAug", f"{name}.png")
    is_further = listed == AUGMENTED and os.path.isfile(further)  # noqa: PTH113 - as in zoo.data.label_maps
    return further if is_further else _inside(root, "SegmentationClass", f"{name}.png")


def _inside(root: Path, folder: str, name: str) -> Path:
    """A file below the folder even where its name, which a list gives, begins with a slash."""
    return Path(f"{root}/{folder}/{name}")
