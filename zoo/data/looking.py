"""What is wrong with one sample: its image, its label map, and whether they fit what is said of them.

Pillow and numpy are imported when something is decoded, not before.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from zoo.data import image_files, label_maps
from zoo.data.contents import Sample
from zoo.errors import DatasetError


@dataclass(frozen=True)
class Look:
    """What was seen of a sample."""

    fault: str = ""  # "file: fact", files below the root; nothing where all is well
    classes: frozenset[int] = frozenset()  # in its label map, where that was decoded


def look(sample: Sample, root: Path, num_classes: int, *, decode: bool) -> Look:
    """At the headers of what has something to agree with, or with ``decode`` at every pixel of everything."""
    if not decode and sample.label_map is None and sample.size is None:
        return Look()
    image = _below(sample.image, root)
    if not os.path.isfile(sample.image):  # noqa: PTH113 - Path.is_file raises where a name is too long for the disk
        return Look(f"{image} is missing")
    try:
        size = image_files.loaded(sample.image).size if decode else image_files.size(sample.image)
        if sample.size is not None and sample.size != size:
            return Look(f"{image}: is {_shown(size)}, but {_shown(sample.size)} in its annotations")
        if sample.label_map is None:
            return Look()
        return _label_map(sample.label_map, image, size, root, num_classes, decode=decode)
    except DatasetError as error:
        return Look(str(error).removeprefix(f"{root}/").rpartition(";")[0])


def _label_map(
    file: Path, image: str, image_size: tuple[int, int], root: Path, num_classes: int, *, decode: bool
) -> Look:
    """Raises DatasetError as zoo.data.label_maps does."""
    name = _below(file, root)
    if not os.path.isfile(file):  # noqa: PTH113
        return Look(f"{image} has no {name}")
    size, mode = image_files.header(file)
    if size != image_size:
        return Look(f"{name} is {_shown(size)} and its image {_shown(image_size)}")
    label_maps.require_mode(file, mode)
    return Look(classes=label_maps.classes_in(file, num_classes)) if decode else Look()


def _below(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix()


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
