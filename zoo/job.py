"""What a step is given: settings, upstream folders, a folder to write into."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """One step of one model.

    ``settings`` are the only parts of recipes and configs that the step sees, and exactly those its record is keyed
    on: a step cannot read what would not make it run again. Targets, too large for every record, are in it by digest.
    """

    step: str
    model: str
    profile: str
    folder: Path  # where this step writes; empty but for `partial/` when the step starts
    shared: Path  # artifacts/<profile>, the parent of every model's folder and of zoo/
    settings: Mapping[str, Any]  # JSON values
    upstream: Mapping[str, Path]  # step name -> the folder it wrote
    key: str  # SHA-256 over settings, upstream outputs, code and library versions
    threads: int = 1

    @property
    def root(self) -> Path:
        """The checkout."""
        return self.shared.parents[1]


@dataclass(frozen=True)
class Result:
    """What a step leaves: every file it promises, and figures for the people who read the build's output."""

    outputs: tuple[Path, ...]
    summary: Mapping[str, Any]  # a few JSON values shown on the step's closing line
