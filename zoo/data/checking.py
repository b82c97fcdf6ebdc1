"""Whether a local copy of a dataset is whole: listed, counted, and every image and label map decoded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from zoo import layouts
from zoo.config import Dataset
from zoo.data.contents import Contents, miscounted
from zoo.data.decoding import looked_at
from zoo.data.judging import unseen
from zoo.data.summary import digest_of, few, files_digest, printable, read_summary, unwritable
from zoo.errors import DatasetError

Advance = Callable[[int, int], None]  # how many of how many samples are done


@dataclass(frozen=True)
class Checked:
    """What was found."""

    counts: Mapping[str, int]  # images by split
    classes: int
    digest: str  # SHA-256 of the list of files; empty where there is none
    digest_of: str  # what it is over
    problems: tuple[str, ...]  # none: the copy is whole
    damaged: tuple[str, ...]  # every file or entry that is not as it must be, with what is wrong
    notes: tuple[str, ...]  # what is as it may be, and worth knowing
    layout: str = ""  # what is expected where, in words


def check(name: str, dataset: Dataset, root: Path, *, inside: bool, jobs: int, advance: Advance) -> Checked:
    """Look at everything under ``root``; all that is wrong is among the problems.

    ``inside``: the data step made it, and its dataset.json is beside it. Raises DatasetError where a process that
    decodes images is killed, and OSError where a folder cannot be read.
    """
    try:
        contents = layouts.find(dataset.layout).contents(dataset, root)
    except DatasetError as error:
        return Checked({}, 0, "", "", (_below(error, root),), (), ())
    damaged, drawn = _looked(contents, dataset, root, jobs, advance)
    entries = [f"{where}: {fact}" for where, fact in contents.entries.items()]
    lists, notes = ([], entries) if dataset.corrupt == "skip" else (entries, [])
    digest, unlike = _digest(name, dataset, root, contents, inside=inside, whole=not damaged)
    problems = [*contents.problems, *miscounted(contents, dataset), *unseen(contents.labels, contents.samples)]
    problems += unwritable(contents.labels)
    if lists:
        problems.append(f"annotations that cannot be used: {few(lists, 'entries')}")
    if damaged:
        total = sum(map(len, contents.samples.values()))
        problems.append(f"damaged, of {total} images or what describes them: {few(damaged)}")
    return Checked(
        {split: len(samples) for split, samples in contents.samples.items()},
        len(contents.labels),
        digest,
        digest_of(inside=inside),
        (*problems, *unlike),
        tuple(map(printable, (*lists, *damaged))),
        (*_left_out(notes), *_undrawn(contents, drawn)),
        contents.layout,
    )


def _looked(
    contents: Contents, dataset: Dataset, root: Path, jobs: int, advance: Advance
) -> tuple[list[str], frozenset[int]]:
    """What is damaged, and the classes in train's label maps."""
    samples = [sample for each in contents.samples.values() for sample in each]
    training = len(contents.samples.get("train", ()))  # which is the first split
    damaged: list[str] = []
    drawn: set[int] = set()
    for done, seen in enumerate(looked_at(samples, root, dataset.num_classes, jobs=jobs), 1):
        if seen.fault:
            damaged.append(seen.fault)
        if done <= training:
            drawn |= seen.classes
        advance(done, len(samples))
    return damaged, frozenset(drawn)


def _digest(
    name: str, dataset: Dataset, root: Path, contents: Contents, *, inside: bool, whole: bool
) -> tuple[str, list[str]]:
    """The digest of the list of files, and whether it is another than it should be.

    Where not all samples are ``whole``, a file that cannot be read has been told.
    """
    if not any(contents.samples.values()):
        return "", []
    try:
        digest = files_digest(root, contents.files, contents.indexes, inside=inside)
        expected = read_summary(root).digest if inside else dataset.files_digest
    except DatasetError as error:
        return "", [_below(error, root)] if whole else []
    if expected is None or digest == expected:
        return digest, []
    where = "dataset.json" if inside else f"files_digest in configs/datasets/{name}.yaml"
    return digest, [f"files were added, lost or changed: their digest is {digest[:12]}, not {expected[:12]} of {where}"]


def _left_out(entries: list[str]) -> list[str]:
    return [f"left out, as corrupt: skip in its config says: {few(entries, 'entries')}"] if entries else []


def _undrawn(contents: Contents, drawn: frozenset[int]) -> list[str]:
    """Classes that no label map of train shows, where there are label maps."""
    missing = [label for index, label in enumerate(contents.labels) if index not in drawn] if drawn else []
    return [f"no pixel of train is {few(missing, 'classes')}"] if missing else []


def _below(error: DatasetError, root: Path) -> str:
    return str(error).removeprefix(f"{root}/")
