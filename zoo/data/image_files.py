"""Image files: which they are, what is in them, and what is said of one that cannot be decoded.

Pillow is imported inside functions: finding files needs no image library.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import DatasetError

if TYPE_CHECKING:
    from PIL import Image

CURE = "replace or remove it, or set corrupt: skip in the dataset's config"
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


def found(folder: Path) -> list[Path]:
    """The image files right in a folder, sorted; none where there is no such folder.

    Links are among them wherever they lead: what cannot be read is then said of the image, which is not lost unseen.
    """
    try:
        with os.scandir(folder) as entries:
            names = [
                entry.name
                for entry in entries
                if Path(entry.name).suffix.lower() in SUFFIXES and (entry.is_symlink() or entry.is_file())
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder / name for name in sorted(names)]


def size(file: Path) -> tuple[int, int]:
    """Width and height in pixels, from the header alone; raises DatasetError as `loaded` does."""
    return header(file)[0]


def header(file: Path) -> tuple[tuple[int, int], str]:
    """Width and height in pixels, and Pillow's mode, from the header alone; raises DatasetError as `loaded` does."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.size, image.mode
    except Exception as error:  # each decoder has its own way of meeting what it does not expect
        raise _undecodable(file, error) from error


def loaded(file: Path, cure: str = CURE) -> "Image.Image":
    """The image in a file, decoded; raises DatasetError naming the file where there is none or it is damaged."""
    from PIL import Image

    from zoo.preprocess import require_range  # which imports torch

    try:
        with Image.open(file) as image:
            image.load()
            require_range(image)
            return image
    except Exception as error:  # as above
        raise _undecodable(file, error, cure) from error


def is_whole(file: Path) -> bool:
    """Whether the image in a file can be decoded."""
    try:
        loaded(file)
    except DatasetError:
        return False
    return True


def _undecodable(file: Path, error: Exception, cure: str = CURE) -> DatasetError:
    fact = str(error).replace(f"image file {str(file)!r}", "its format").replace(f"'{file}'", "the file")
    fact = " ".join(fact.split()) or type(error).__name__
    return DatasetError(f"{file}: not an image that can be decoded: {fact}; {cure}")
