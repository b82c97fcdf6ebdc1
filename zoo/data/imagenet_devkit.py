"""ImageNet's development kit: which class each image of the validation set has.

``ILSVRC2012_validation_ground_truth.txt`` has a line for each image, ILSVRC2012_val_00000001.JPEG first: its class ID,
from 1. ``meta.mat`` has the WNID, such as n01440764, of every ID; IDs are in another order than sorted WNIDs, which are
the classes. A text file ``synsets.txt`` can stand in its place: line n begins with the WNID of ID n.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zoo.data.summary import few
from zoo.errors import DatasetError

FOLDERS = ("ILSVRC2012_devkit_t12/data", "data")  # as the archive makes it, and its content alone
TRUTH, META, TEXT = "ILSVRC2012_validation_ground_truth.txt", "meta.mat", "synsets.txt"
FILES = (TRUTH, META, TEXT)
_IMAGE = re.compile(r"ILSVRC2012_val_([0-9]{8})\.JPEG")
_WNID = re.compile(r"n[0-9]{8}")


@dataclass(frozen=True)
class GroundTruth:
    """The validation images' WNIDs, image 1 first, and the files that say so."""

    classes: tuple[str, ...]
    files: tuple[Path, ...]


def ground_truth(root: Path, num_classes: int) -> GroundTruth:
    """What the devkit below ``root`` says; raises DatasetError with paths below ``root`` where it says nothing whole.

    IDs above ``num_classes``, of which ``meta.mat`` has some, stand for groups of classes and are no image's.
    """
    folder = next((root / each for each in FOLDERS if (root / each / TRUTH).is_file()), None)
    if folder is None:
        raise DatasetError(f"val/ has no folders of classes, and there is no {FOLDERS[0]}/{TRUTH} that names them")
    lines = _text(folder / TRUTH, root).split()
    names, source = _wnids(folder, root)
    ids = {str(number): names[number] for number in range(1, num_classes + 1) if number in names}
    if wrong := [f"line {place}: {line[:20]!a}" for place, line in enumerate(lines, 1) if line not in ids]:
        raise DatasetError(
            f"{_below(folder / TRUTH, root)}: no class ID from 1 to {num_classes}: {few(wrong, 'lines')}"
        )
    return GroundTruth(tuple(ids[line] for line in lines), (folder / TRUTH, source))


def number(name: str) -> int | None:
    """Of a validation image by the name of its file, from 1; none where it is no such name."""
    found = _IMAGE.fullmatch(name)
    return int(found[1]) or None if found else None


def file_name(number: int) -> str:
    """Of the validation image of that number."""
    return f"ILSVRC2012_val_{number:08d}.JPEG"


def _wnids(folder: Path, root: Path) -> tuple[Mapping[int, str], Path]:
    """WNIDs by class ID, and the file they are from."""
    if (text := folder / TEXT).is_file():
        found = {place: line.split()[0] for place, line in enumerate(_text(text, root).splitlines(), 1) if line.strip()}
        source = text
    elif (source := folder / META).is_file():
        found = _of_meta(source, root)
    else:
        raise DatasetError(f"{_below(folder, root)}/ has neither {META} nor {TEXT}, which say what class IDs mean")
    if wrong := [f"{place}: {name[:20]!a}" for place, name in found.items() if not _WNID.fullmatch(name)]:
        raise DatasetError(f"{_below(source, root)}: no WNID, such as n01440764, at {few(wrong)}")
    return found, source


def _of_meta(file: Path, root: Path) -> dict[int, str]:
    try:
        from scipy.io import loadmat
    except ImportError:
        raise DatasetError(f"{_below(file, root)} needs scipy, which is not installed, or {TEXT} beside it") from None
    try:
        synsets = loadmat(file, squeeze_me=True, variable_names=["synsets"])["synsets"]
        return {int(each["ILSVRC2012_ID"]): str(each["WNID"]) for each in synsets.ravel()}
    except Exception as error:  # whatever a file that is no MATLAB file makes of its reader
        fact = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise DatasetError(f"{_below(file, root)} is damaged, or not the devkit's: {fact}") from error


def _text(file: Path, root: Path) -> str:
    try:
        return file.read_text("utf-8-sig", "replace")
    except OSError as error:
        raise DatasetError(f"{_below(file, root)}: {error.strerror}") from error


def _below(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix()
