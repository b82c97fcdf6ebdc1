"""Miniature copies of the real datasets' layouts, which tests make."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from zoo.config import Dataset
from zoo.data import judging, label_maps
from zoo.data.summary import DatasetSummary
from zoo.errors import DatasetError

TASKS = {
    "imagefolder": "classification",
    "imagenet": "classification",
    "label_pngs": "segmentation",
    "voc": "segmentation",
    "coco": "detection",
}
SIZE = (9, 7)  # odd, and not square
HALF = (0.5, 0.5, 0.5)


def config(layout: str, **changes: Any) -> Dataset:
    settings = {
        "description": "test",
        "task": TASKS[layout],
        "layout": layout,
        "root": "$TINY",
        "num_classes": 2,
        "mean": HALF,
        "std": HALF,
        "licence": "none",
    }
    return Dataset.model_validate(settings | changes)


def picture(file: Path, mode: str = "RGB", size: tuple[int, int] = SIZE) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise(size, 50).convert(mode).save(file)
    return file


def label_map(file: Path, *, size: tuple[int, int] = SIZE, value: int = 1, mode: str = "P") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((size[1], size[0]), np.uint8)
    values[0, 0], values[-1, -1] = value, label_maps.IGNORED
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
    image.save(file)
    return file


def cut(file: Path) -> Path:
    """Keep the header and lose the rest."""
    file.write_bytes(file.read_bytes()[:-40])
    return file


def label_pngs_tree(root: Path) -> Path:
    for split, count in (("train2017", 3), ("val2017", 2)):
        for index in range(count):
            picture(root / "images" / split / f"{index:012d}.jpg")
            label_map(root / "labels" / split / f"{index:012d}.png", mode="L")
    return root


def voc_tree(root: Path) -> Path:
    for name in ("2007_000032", "2007_000039", "2007_000042", "2007_000061", "2007_000063"):
        picture(root / "JPEGImages" / f"{name}.jpg")
    picture(root / "JPEGImages" / "2011_000001.jpg")  # most of VOC's images have no label map
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000032\n2007_000039\n2007_000063\n")
    (lists / "val.txt").write_text("2007_000042\n2007_000061\n")
    for name in (lists / "train.txt").read_text().split() + (lists / "val.txt").read_text().split():
        label_map(root / "SegmentationClass" / f"{name}.png")
    return root


def coco_content(count: int) -> dict[str, Any]:
    """Like an annotation file of COCO: gaps in the categories' ids, a crowd, and a last image without objects."""
    return {
        "info": {},
        "licenses": [],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person", "supercategory": "person"}],
        "images": [
            {"id": 100 + index, "file_name": f"{index:012d}.jpg", "width": SIZE[0], "height": SIZE[1]}
            for index in range(count)
        ],
        "annotations": [
            {"id": 1, "image_id": 100, "category_id": 90, "bbox": [1.5, 2, 3, 4.25], "area": 12, "iscrowd": 0},
            {"id": 2, "image_id": 101, "category_id": 1, "bbox": [0, 0, 9, 7], "iscrowd": 1, "segmentation": {}},
            {"id": 3, "image_id": 100, "category_id": 1, "bbox": [-0.4, 0, 2, 7.5]},
        ],
    }


def coco_tree(root: Path) -> Path:
    for split, count in (("train2017", 3), ("val2017", 2)):
        for index in range(count):
            picture(root / split / f"{index:012d}.jpg")
        write_json(root, split, coco_content(count))
    return root


def imagefolder_tree(root: Path) -> Path:
    for split, label, count in (("train", "cat", 2), ("train", "dog", 1), ("val", "cat", 1), ("val", "dog", 1)):
        for index in range(count):
            picture(root / split / label / f"{index}.jpg")
    return root


def write_json(root: Path, split: str, content: object) -> Path:
    file = root / "annotations" / f"instances_{split}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def imagenet_tree(root: Path) -> Path:
    """As the archives make it: val/ is flat, and the devkit counts classes in an order of its own.

    Class ID 1 is the second of the classes, ID 2 the first, ID 3 a group of both.
    """
    for wnid, count in (("n01440764", 2), ("n01443537", 1)):
        for index in range(count):
            picture(root / "train" / wnid / f"{wnid}_{index}.JPEG")
    for number in (1, 2):
        picture(root / "val" / f"ILSVRC2012_val_{number:08d}.JPEG")
    devkit = root / "ILSVRC2012_devkit_t12" / "data"
    devkit.mkdir(parents=True)
    (devkit / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n2\n")
    meta_mat(devkit / "meta.mat", {1: "n01443537", 2: "n01440764", 3: "n00001740"})
    return root


def meta_mat(file: Path, synsets: dict[int, str]) -> Path:
    """The devkit's: a structure for each synset, in a column."""
    fields = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)]
    rows = [(np.uint16([[number]]), wnid, "tench, Tinca tinca", np.uint8([[0]])) for number, wnid in synsets.items()]
    savemat(file, {"synsets": np.array([[row] for row in rows], dtype=fields)})
    return file


TREES: dict[str, Callable[[Path], Path]] = {
    "coco": coco_tree,
    "imagefolder": imagefolder_tree,
    "imagenet": imagenet_tree,
    "label_pngs": label_pngs_tree,
    "voc": voc_tree,
}


def summarise(layout: str, root: Path, **changes: Any) -> DatasetSummary:
    return judging.summarise("tiny", config(layout, **changes), root, inside=False)


def message(layout: str, root: Path, **changes: Any) -> str:
    """The error's, which is one line."""
    with pytest.raises(DatasetError) as caught:
        summarise(layout, root, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)
