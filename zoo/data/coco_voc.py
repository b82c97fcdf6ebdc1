"""COCO's objects as label maps of PASCAL VOC's 21 classes, which is what torchvision's segmenters were trained on.

An object of one of VOC's 20 classes is drawn by its outline. Where two overlap a pixel is ignored, everything else is
background, and crowds are left out. Training images are those with more than 1000 pixels of such objects by their
annotations; validation images are all. A pixel is inside an outline where its centre is; along outlines other programs
may decide otherwise. The format: https://cocodataset.org/#format-data, object detection.
"""

import math
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.data import coco_json
from zoo.data.label_maps import IGNORED
from zoo.data.summary import few
from zoo.errors import DatasetError, UnusableFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# VOC's classes from 1, in their order, by their names in COCO.
CLASSES = (
    *("airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table", "dog"),
    *("horse", "motorcycle", "person", "potted plant", "sheep", "couch", "train", "tv"),
)
LEAST_AREA = 1000  # pixels of all its objects, that an image to train on has more than
SPLITS = ("train2017", "val2017")


@dataclass(frozen=True)
class Outlined:
    """One image, and the outlines of its objects with their classes."""

    name: str  # of its file
    size: tuple[int, int]  # width and height in pixels
    objects: tuple[tuple[int, Sequence[Sequence[float]]], ...]  # class; polygons as x, y, x, y ... in pixels


def make(coco: Path, folder: Path, advance: Callable[[int, int], None]) -> dict[str, int]:
    """Draw label maps of a copy of COCO 2017 into ``folder``, beside links to their images, as the layout label_pngs.

    The folder is whole or not there. Returns how many images each split has. Raises DatasetError where the copy is not
    whole, UnusableFile where the folder cannot be made.
    """
    if folder.exists():
        raise UnusableFile(f"{folder}: is there already; remove it, or name another")
    splits = {split: outlined(coco, split) for split in SPLITS}
    partial = folder.with_name(f"{folder.name}.partial")
    total, done = sum(map(len, splits.values())), 0
    try:
        shutil.rmtree(partial, ignore_errors=True)  # what was killed on the way
        for split, images in splits.items():
            pictures, maps = partial / "images" / split, partial / "labels" / split
            pictures.mkdir(parents=True)
            maps.mkdir(parents=True)
            for image in images:
                _save(label_map(image), maps / f"{Path(image.name).stem}.png")
                (pictures / image.name).symlink_to((coco / split / image.name).resolve())
                done += 1
                advance(done, total)
        partial.rename(folder)
    except OSError as error:
        raise UnusableFile(f"{error.filename or partial}: {error.strerror}; name another folder") from error
    return {split: len(images) for split, images in splits.items()}


def outlined(coco: Path, split: str) -> tuple[Outlined, ...]:
    """The images of a split, in the order of its annotation file; raises DatasetError where they are not whole."""
    file = coco / "annotations" / f"instances_{split}.json"
    images, annotations, categories = coco_json.lists(file)
    try:
        classes = {each["id"]: CLASSES.index(each["name"]) + 1 for each in categories if each["name"] in CLASSES}
        found: dict[Any, list[tuple[int, Any]]] = defaultdict(list)
        areas: dict[Any, float] = defaultdict(float)
        for each in annotations:
            if each["category_id"] in classes and not each["iscrowd"]:
                found[each["image_id"]].append((classes[each["category_id"]], _polygons(each)))
                areas[each["image_id"]] += each["area"]
        kept = tuple(
            Outlined(Path(each["file_name"]).name, _size(each), tuple(found[each["id"]]))
            for each in images
            if areas[each["id"]] > LEAST_AREA or not split.startswith("train")
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{file}: not as COCO's: {type(error).__name__}: {error}; {coco_json.CURE}") from error
    if repeated := sorted(name for name, times in Counter(image.name for image in kept).items() if times > 1):
        raise DatasetError(f"{file}: {few(repeated, 'images')} more than once; {coco_json.CURE}")
    present = {entry.name for entry in os.scandir(coco / split)} if (coco / split).is_dir() else set()
    if missing := [image.name for image in kept if image.name not in present]:
        raise DatasetError(f"{coco / split}: lacks {few(missing, 'images')} of {file.name}; copy the rest")
    if not kept or len(classes) != len(CLASSES):
        raise DatasetError(f"{file}: {len(kept)} images, {len(classes)} of VOC's 20 classes; {coco_json.CURE}")
    return kept


def label_map(image: Outlined) -> "NDArray[np.uint8]":
    """The classes of the image's pixels (H, W), 0 for the background, 255 where objects overlap."""
    import numpy as np

    labels = np.zeros((image.size[1], image.size[0]), np.uint8)
    for label, polygons in image.objects:
        inside = np.zeros(labels.shape, np.bool_)
        for polygon in polygons:
            inside |= _inside(np.array(polygon, np.float64).reshape(-1, 2), *image.size)
        labels[inside] = np.where(labels[inside] == 0, label, IGNORED)
    return labels


def _inside(corners: "NDArray[np.float64]", width: int, height: int) -> "NDArray[np.bool_]":
    """Which pixels (height, width) have their centre inside a polygon (N, 2), x before y: where an odd number of its
    edges are to the left.
    """
    import numpy as np

    crossings = np.zeros((height, width + 1), np.uint8)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        first, beyond = sorted((math.ceil(y1 - 0.5), math.ceil(y2 - 0.5)))
        rows = np.arange(max(first, 0), min(beyond, height))
        if rows.size:
            across = x1 + (rows + 0.5 - y1) * (x2 - x1) / (y2 - y1)
            crossings[rows, np.clip(np.ceil(across - 0.5), 0, width).astype(np.intp)] ^= 1
    return np.bitwise_xor.accumulate(crossings, axis=1)[:, :width].astype(np.bool_)


def _size(image: dict[str, Any]) -> tuple[int, int]:
    size = image["width"], image["height"]
    if not all(type(side) is int and side > 0 for side in size):
        raise ValueError(f"image {image['id']} has no whole numbers above 0 as width and height")
    return size


def _polygons(annotation: dict[str, Any]) -> Sequence[Sequence[float]]:
    polygons = annotation["segmentation"]
    if not isinstance(polygons, list) or not all(
        len(each) >= 6 and len(each) % 2 == 0 and all(map(math.isfinite, each)) for each in polygons
    ):
        raise ValueError(f"annotation {annotation.get('id')} has no polygons as segmentation")
    return polygons


def _save(labels: "NDArray[np.uint8]", file: Path) -> None:
    from PIL import Image

    Image.fromarray(labels).save(file)
