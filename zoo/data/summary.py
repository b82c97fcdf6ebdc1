"""What a dataset holds, whatever its layout: ``dataset.json``, which the data step writes and every other step reads.

Needs neither torch nor an image library.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from zoo.config import Config, Dataset, Name, Positive, Rgb
from zoo.errors import DatasetError

SPLITS = ("train", "val")
SUMMARY = "dataset.json"
LONGEST = 300  # letters of a name or fact, of which a message has several


class DatasetSummary(Config):
    """What the data step found or made: ``dataset.json``."""

    name: Name
    task: str
    layout: str
    root: str  # absolute, or "." where the images lie beside this file
    num_classes: Positive
    labels: Annotated[tuple[str, ...], Field(strict=False)]  # the index is the class
    counts: dict[str, Positive]  # images by split
    mean: Rgb
    std: Rgb
    digest: str  # SHA-256 over sorted lines "relative path\0what digest_of says\n"
    digest_of: Literal["paths and contents", "paths and sizes"]  # sizes, in bytes, where hashing would take hours
    skipped: Annotated[tuple[str, ...], Field(strict=False)] = ()  # images and annotations left out, as corrupt: skip


def described(
    name: str,
    dataset: Dataset,
    root: Path,
    labels: Sequence[str],
    counts: Mapping[str, int],
    files: Iterable[Path],
    *,
    inside: bool,
    indexes: Iterable[Path] = (),
    skipped: Sequence[str] = (),
) -> DatasetSummary:
    """The summary of a dataset whose ``files`` are images and labels, ``indexes`` lists or annotations of them.

    ``inside``: generated, small, and described from its own folder, so that the digest is of every file's content; else
    it is of the content of the indexes and of the size of the others. Raises DatasetError naming a file that cannot be
    read, or whose name dataset.json could not hold.
    """
    digest = files_digest(root, files, indexes, inside=inside)
    if wrong := unwritable((*labels, *skipped)):
        raise DatasetError(f"{root}: {wrong[0]}")
    return DatasetSummary(
        name=name,
        task=dataset.task,
        layout=dataset.layout,
        root="." if inside else str(root.resolve()),
        num_classes=dataset.num_classes,
        labels=tuple(labels),
        counts=dict(counts),
        mean=dataset.mean,
        std=dataset.std,
        digest=digest,
        digest_of=digest_of(inside=inside),
        skipped=tuple(skipped),
    )


def files_digest(root: Path, files: Iterable[Path], indexes: Iterable[Path], *, inside: bool) -> str:
    """The digest that tells one copy of a dataset from another; the arguments are those of ``described``.

    Raises DatasetError naming a file that cannot be read.
    """
    try:
        lines = [_line(file, root, str(file.stat().st_size) if not inside else _content_digest(file)) for file in files]
        lines += [_line(file, root, _content_digest(file)) for file in indexes]
    except OSError as error:
        raise DatasetError(f"{error.filename}: {error.strerror}; replace or remove it") from error
    except ValueError as error:  # a name with a zero byte
        raise DatasetError(f"{root}: a name that no file can have: {error}; correct the list that it is in") from error
    return hashlib.sha256("".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()


def digest_of(*, inside: bool) -> Literal["paths and contents", "paths and sizes"]:
    """What ``files_digest`` is over."""
    return "paths and contents" if inside else "paths and sizes"


def read_summary(folder: Path) -> DatasetSummary:
    """The summary that the data step left in ``folder``; raises DatasetError where there is none."""
    try:
        return DatasetSummary.model_validate(json.loads((folder / SUMMARY).read_text("utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        fact = " ".join(str(error).split())[:200]
        raise DatasetError(f"{folder / SUMMARY}: cannot be read: {fact}; build the data step again") from error


def expanded_root(name: str, dataset: Dataset) -> Path:
    """The dataset's ``root`` with its $VARIABLES; raises DatasetError where one is not set or nothing is there."""
    root = os.path.expandvars(dataset.root or "")
    config = f"configs/datasets/{name}.yaml"
    if dataset.root and not root:
        raise DatasetError(f"{config}: root: {dataset.root} is empty; set it to the folder of the dataset's files")
    if not root:
        raise DatasetError(f"{config}: neither a generator nor a root; give one of the two")
    if "$" in root:
        raise DatasetError(f"{config}: root: {root} is not set; export it as the folder of the dataset's files")
    folder = Path(os.path.expanduser(root))  # noqa: PTH111 - Path.expanduser raises for unknown users
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; put {name} there or change root in {config}")
    return folder


def spellings(split: str) -> tuple[str, ...]:
    """What a split's folder may be called: COCO's carry their year."""
    return split, f"{split}2017"


def few(names: Sequence[str], what: str = "") -> str:
    """The first three of the names, fit for one line, and how many more there are of ``what``."""
    more = f" and {len(names) - 3} more {what}".rstrip() if len(names) > 3 else ""
    return ", ".join(_shortened(printable(name)) for name in names[:3]) + more


def printable(text: str) -> str:
    """As it can stand on a line of UTF-8: names of files may hold any bytes."""
    return text if text.isprintable() else ascii(text)[1:-1]


def _shortened(text: str) -> str:
    """With its end, where a fact is."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}...{text[-LONGEST // 2 :]}"


def unwritable(names: Iterable[str]) -> list[str]:
    """What is wrong with names that dataset.json could not hold."""
    return [f"the name {name!a} is not UTF-8; rename it" for name in names if not _is_utf8(name)]


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _line(file: Path, root: Path, fact: str) -> str:
    return f"{file.relative_to(root).as_posix()}\0{fact}\n"


def _content_digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
