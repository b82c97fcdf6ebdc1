"""COCO's annotation file of a split: what it says of which image, and what in it cannot be used.

The format: https://cocodataset.org/#format-data, object detection.
"""

import json
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from zoo.errors import DatasetError

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels, inside the image
LARGEST = 2**53  # of numbers in the file: beyond, they are no longer exact
BEYOND = 1.0  # pixels that rounding may put a box beyond its image; it is clipped
CURE = "download it again, or see https://cocodataset.org/#format-data"


@dataclass(frozen=True)
class Picture:
    """One image, and the objects in it; ``boxes``, ``classes`` and ``crowds`` are parallel."""

    id: int
    name: str  # of its file
    size: tuple[int, int]  # width and height in pixels
    boxes: list[Box] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)  # from 0, in the order of the categories' ids
    crowds: list[bool] = field(default_factory=list)  # whether the box is around many objects: not a target


@dataclass(frozen=True)
class Annotations:
    """An annotation file without its faults."""

    categories: tuple[int, ...]  # ids, sorted: the index is the class
    labels: tuple[str, ...]
    pictures: tuple[Picture, ...]  # in the order of the file
    faults: Mapping[str, str]  # of each entry left out: where, as "annotations[7]", and what is wrong with it


def read(file: Path, present: Container[str]) -> Annotations:
    """What an annotation file says of the images whose files' names are ``present``.

    Raises DatasetError where it is no such file at all; what is wrong with single images or boxes is in ``faults``.
    """
    images, annotations, categories = lists(file)
    names = _names(file, categories)
    ids = tuple(sorted(names))
    faults: dict[str, str] = {}
    pictures: dict[Any, Picture | None] = {}  # by id; none where the image is left out, and its boxes with it
    taken: set[str] = set()  # names of files
    for index, image in enumerate(images):
        picture = _picture(image, pictures, present, taken)
        if isinstance(picture, str):
            faults[f"images[{index}]"] = picture
            if isinstance(image, dict) and _is_whole(image.get("id")):
                pictures.setdefault(image["id"], None)
        else:
            pictures[picture.id] = picture
            taken.add(picture.name)
    classes = {category: index for index, category in enumerate(ids)}
    for index, annotation in enumerate(annotations):
        if fault := _added(annotation, pictures, classes):
            faults[f"annotations[{index}]"] = fault
    kept = tuple(picture for picture in pictures.values() if picture is not None)
    return Annotations(ids, tuple(names[category] for category in ids), kept, faults)


def lists(file: Path) -> list[list[Any]]:
    """The images, annotations and categories of an annotation file; raises DatasetError where it is none."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        fact = " ".join(str(error).replace(f"'{file}'", "the file").split())[:200]
        raise DatasetError(f"{file}: not an annotation file that can be read: {fact}; {CURE}") from error
    lists = [content.get(part) if isinstance(content, dict) else None for part in _PARTS]
    missing = [part for part, found in zip(_PARTS, lists, strict=True) if not isinstance(found, list)]
    if missing:
        raise DatasetError(f"{file}: not an annotation file: no list of {', '.join(missing)}; {CURE}")
    return [found for found in lists if found is not None]


_PARTS = ("images", "annotations", "categories")


def _names(file: Path, categories: list[Any]) -> dict[int, str]:
    """Categories' names by their ids."""
    whole = [
        category
        for category in categories
        if isinstance(category, dict) and _is_whole(category.get("id")) and isinstance(category.get("name"), str)
    ]
    names = {category["id"]: category["name"] for category in whole}
    if len(names) != len(categories):
        raise DatasetError(f"{file}: categories that lack a whole number of their own as id, or a name; {CURE}")
    if twice := [name for name, count in Counter(names.values()).items() if count > 1]:
        raise DatasetError(f"{file}: two categories are named '{twice[0]}'; {CURE}")
    return names


def _picture(image: Any, known: Container[int], present: Container[str], taken: Container[str]) -> Picture | str:
    """The image that an entry describes, or what is wrong with it."""
    if not isinstance(image, dict) or not _is_whole(image.get("id")) or not isinstance(image.get("file_name"), str):
        return "no whole number as id, or no file_name"
    name, width, height = image["file_name"], image.get("width"), image.get("height")
    if image["id"] in known:
        return f"{name}: image id {image['id']} is taken"
    if name in taken:
        return f"{name}: is the file of another entry too"
    if not (_is_whole(width) and _is_whole(height) and min(width, height) > 0):
        return f"{name}: no whole numbers as width and height"
    if name not in present:
        return f"{name} is missing"
    return Picture(image["id"], name, (width, height))


def _added(annotation: Any, pictures: Mapping[Any, Picture | None], classes: Mapping[Any, int]) -> str:
    """Adds a box to its image; returns what is wrong where it cannot, nothing where it did or the image is left out."""
    if not isinstance(annotation, dict):
        return "not an object"
    image, category = annotation.get("image_id"), annotation.get("category_id")
    if type(image) is not int or image not in pictures:
        return f"image {image!r} is unknown"
    if type(category) is not int or category not in classes:
        return f"category {category!r} is unknown"
    picture = pictures[image]
    if picture is None:
        return ""
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        return f"{picture.name}: bbox is not four numbers"
    left, top, wide, high = box
    width, height = picture.size
    if wide <= 0 or high <= 0:
        return f"{picture.name}: a box without area"
    if min(left, top) < -BEYOND or left + wide > width + BEYOND or top + high > height + BEYOND:
        return f"{picture.name}: a box outside the image of {width}x{height}"
    clipped = (float(max(left, 0)), float(max(top, 0)), float(min(left + wide, width)), float(min(top + high, height)))
    if clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
        return f"{picture.name}: a box outside the image of {width}x{height}"
    picture.boxes.append(clipped)
    picture.classes.append(classes[category])
    picture.crowds.append(bool(annotation.get("iscrowd", 0)))
    return ""


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= LARGEST  # which NaN is not


def _is_whole(value: Any) -> TypeGuard[int]:
    return type(value) is int and abs(value) <= LARGEST
