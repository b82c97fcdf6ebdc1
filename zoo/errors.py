"""Every error that a user can meet, as one tree.

    ZooError                  place: fact; cure (always one line)
    |-- InvalidInput          recipes or configs are wrong; carries all problems at once (exit code 2)
    |-- StepError             a step of the pipeline found that it cannot go on
    |   |-- CheckFailed       the lite model is broken or breaks its target's limits
    |   |-- TrainingDiverged  the loss is not finite
    |   `-- NotAccepted       the lite model's accuracy misses what its recipe asks for
    |-- DatasetError          a dataset is missing, empty or damaged
    |-- MissingWeights        published weights are not here and cannot be downloaded
    |-- MissingLibrary        a recipe or release needs a package that is not installed
    |-- UnusableFile          a file to look at is not there, or one cannot be written where it should be
    |-- UnreadableModel       an ONNX file is not there, is damaged or is not valid ONNX
    |-- UnknownName           no such release, model or version; suggests near ones
    |-- MissingIndex          there is no zoo where one was looked for
    |-- UnsupportedFormat     a file was written by a newer lite-zoo
    `-- IntegrityError        a file is not what its record or release says
        `-- WeightsMismatch   weights, plan and source do not belong together

A traceback is for our own bugs; anything a user can cause is one of these.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches


class ZooError(Exception):
    """The root: ``str(error)`` is one line that names the place, the fact and the cure."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong in one file: where it is, what it is, what to do about it."""

    file: str
    line: int
    path: str
    fact: str
    cure: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " + (f"{self.path}: " if self.path else "")
        return where + self.fact + (f"; {self.cure}" if self.cure else "")


class InvalidInput(ZooError):
    """Recipes or configs that cannot be used; ``problems`` holds all of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class StepError(ZooError):
    """A step found that it cannot go on."""


class CheckFailed(StepError):
    """The lite model is broken, or breaks its target's limits."""


class TrainingDiverged(StepError):
    """The loss is not finite."""


class NotAccepted(StepError):
    """The lite model's accuracy misses what its recipe asks for."""


class DatasetError(ZooError):
    """A dataset is missing, empty or damaged."""


class MissingWeights(ZooError):
    """Published weights are not here and cannot be downloaded."""


class MissingLibrary(ZooError):
    """A package that is needed is not installed."""


class UnusableFile(ZooError):
    """A file to look at is not there, or one cannot be written where it should be."""


class UnreadableModel(ZooError):
    """An ONNX file is not there, is damaged or is not valid ONNX."""


class UnknownName(ZooError):
    """A name that does not exist."""


class MissingIndex(ZooError):
    """There is no zoo where one was looked for."""


class UnsupportedFormat(ZooError):
    """A file was written by a newer lite-zoo."""


class IntegrityError(ZooError):
    """A file is not what its record or release says it is."""


class WeightsMismatch(IntegrityError):
    """Weights, plan and source model do not belong together."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A cure such as ``did you mean 'schedule'?``, or the known names when few, or nothing."""
    names = sorted(known)
    folded = {each.casefold(): each for each in names}
    if near := get_close_matches(name, names, n=1, cutoff=0.6):
        return f"did you mean '{near[0]}'?"
    if near := get_close_matches(name.casefold(), folded, n=1, cutoff=0.6):
        return f"did you mean '{folded[near[0]]}'?"
    if 0 < len(names) <= 8:
        return "known: " + ", ".join(names)
    return ""
