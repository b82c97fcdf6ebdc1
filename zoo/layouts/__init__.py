"""The layouts of datasets on disk, one module each: the folder is the registry.

A module here imports image libraries inside its functions: knowing which layouts exist costs no framework import.
"""

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from zoo.config import Dataset
from zoo.data.contents import Contents
from zoo.data.summary import DatasetSummary
from zoo.errors import UnknownName, did_you_mean
from zoo.reading import registry


class Layout(Protocol):
    """What a module of this folder offers."""

    TASK: str  # the task whose labels it holds
    NAMES_CLASSES: bool  # whether the files say what the classes are called; where not, the config's ``labels`` do
    INDEXES: tuple[str, ...]  # globs of the files that list images or annotations: an edit inside them is a change

    def contents(self, dataset: Dataset, root: Path) -> Contents:
        """What is under ``root``, as it is listed, and all that is wrong with the listing; no image is opened.

        Raises DatasetError where a file is not what it must be for anything to be read of it.
        """

    def images(self, folder: Path, summary: DatasetSummary, split: str) -> Any:
        """One split of the dataset that ``summary``, read from ``folder``, describes, but for what it skips.

        A frozen dataclass of parallel tuples, ``files`` first; the other fields are the layout's. Raises DatasetError
        where the files are no longer as many as the summary says.
        """


def find(name: str) -> Layout:
    """The layout of that name; raises UnknownName with the near ones."""
    known = registry.modules("zoo.layouts")
    if name not in known:
        raise UnknownName(f"unknown layout '{name}'; {did_you_mean(name, known)}".rstrip("; "))
    return cast(Layout, import_module(f"{__name__}.{name}"))
