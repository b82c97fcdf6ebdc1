"""All recipes and configs of a checkout, read and validated at once: ``load(root)``. Imports no framework."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from zoo.config import NAME_LENGTH, NAME_PATTERN, Config, Dataset, Profile
from zoo.errors import InvalidInput, Problem, did_you_mean
from zoo.reading import batches, references, strict_yaml, target_references
from zoo.reading.document import Document, shown, shown_path
from zoo.reading.validation import NAME_CURE, validate
from zoo.recipe import Recipe
from zoo.schedule import Schedule
from zoo.targets import extending, identity
from zoo.targets.target import Target

MODELS: Mapping[str, type[Config]] = {
    "recipes": Recipe,
    "datasets": Dataset,
    "schedules": Schedule,
    "targets": Target,
    "profiles": Profile,
}
RESERVED = frozenset({"data", "zoo"})  # folders that stand beside the models' in artifacts/<profile>/


@dataclass(frozen=True)
class Library:
    """What a checkout declares, by name; every reference between these is known to hold."""

    root: Path
    recipes: Mapping[str, Recipe]
    datasets: Mapping[str, Dataset]
    schedules: Mapping[str, Schedule]
    targets: Mapping[str, Target]
    profiles: Mapping[str, Profile]
    files: Mapping[str, Path]  # of each recipe, by its name

    @cached_property
    def target_digests(self) -> Mapping[str, str]:
        """What tells that a target's facts changed."""
        return {name: identity.digest(target) for name, target in sorted(self.targets.items())}


def load(root: Path) -> Library:
    """Read recipes/ and configs/ below ``root``.

    Raises InvalidInput holding every problem of every file, sorted by file and line.
    """
    reading = _Reading(root)
    for kind, file in reading.discover():
        reading.take(kind, file)
    reading.resolve_targets()
    reading.add(references.problems(reading.documents, {kind: set(files) for kind, files in reading.files.items()}))
    reading.add(target_references.problems(reading.documents["recipes"], cast(Any, reading.models["targets"])))
    reading.add(batches.problems(reading.documents, reading.models))
    if reading.problems:
        raise InvalidInput(sorted(reading.problems, key=lambda problem: (problem.file, problem.line, problem.path)))
    models = cast(Any, reading.models)
    return Library(root=root, **{kind: models[kind] for kind in MODELS}, files=reading.files["recipes"])


def _by_kind() -> dict[str, dict[str, Any]]:
    return {kind: {} for kind in MODELS}


@dataclass
class _Reading:
    """What has been read so far, by kind and name; a file that is wrong still takes its name."""

    root: Path
    files: dict[str, dict[str, Path]] = field(default_factory=_by_kind)
    documents: dict[str, dict[str, Document]] = field(default_factory=_by_kind)
    models: dict[str, dict[str, Config]] = field(default_factory=_by_kind)
    problems: list[Problem] = field(default_factory=list)
    taken: dict[tuple[str, str], Path] = field(
        default_factory=dict
    )  # kind and name in lower case, as some disks see it

    def discover(self) -> Iterator[tuple[str, Path]]:
        """Every file that declares something, with its kind."""
        for folder in self._folders("recipes"):
            yield from (("recipes", file) for file in self._files(folder))
        for folder in self._folders("configs"):
            if folder.name in MODELS and folder.name != "recipes":
                yield from ((folder.name, file) for file in self._files(folder))
            elif folder.name != "schemas":
                cure = did_you_mean(folder.name, [kind for kind in MODELS if kind != "recipes"])
                self._refuse(folder, "unknown kind of config", cure)

    def take(self, kind: str, file: Path) -> None:
        """Read one file: its name, its content, its fields."""
        name = file.stem
        self._check_name(kind, file)
        if name in self.files[kind]:
            return
        self.files[kind][name] = file
        try:
            document = self.documents[kind][name] = strict_yaml.load(file, self.root)
            if kind != "targets":  # one may extend another, so that all are read first
                self.models[kind][name] = validate(document, MODELS[kind])
        except InvalidInput as error:
            self.problems += error.problems

    def resolve_targets(self) -> None:
        """Make whole targets of what their files say."""
        targets, problems = extending.resolve(self.documents["targets"], self.files["targets"])
        self.models["targets"] |= targets
        self.problems += problems

    def add(self, found: Iterable[Problem]) -> None:
        """Add problems of places that have none yet: a value of the wrong shape need not also be unknown."""
        taken = {(problem.file, problem.path) for problem in self.problems}
        self.problems += [problem for problem in found if (problem.file, problem.path) not in taken]

    def _folders(self, name: str) -> Iterator[Path]:
        if not (self.root / name).is_dir():
            self._refuse(self.root / name, "no such folder", "run this in the checkout's root")
            return
        for place in self._inside(self.root / name):
            if place.is_dir():
                yield place
            elif place.suffix in (".yaml", ".yml"):
                where = "a source library's folder, such as recipes/torchvision/" if name == "recipes" else "a folder"
                self._refuse(place, f"directly in {name}/", f"move it into {where}")

    def _files(self, folder: Path) -> Iterator[Path]:
        for place in self._inside(folder):
            if place.suffix == ".yaml":
                yield place
            elif place.suffix == ".yml":
                self._refuse(place, "ends in .yml, which is not read", "rename it to .yaml")
            elif place.is_dir():
                self._refuse(place, "a folder inside a folder of files", "move its files up and remove it")

    def _inside(self, folder: Path) -> list[Path]:
        """Sorted content; hidden files are editors' and file managers'."""
        try:
            return sorted(place for place in folder.iterdir() if not place.name.startswith((".", "__")))
        except OSError as error:
            self._refuse(folder, f"cannot be read: {error.strerror}", "check its permissions")
            return []

    def _check_name(self, kind: str, file: Path) -> None:
        name = file.stem
        if len(name) > NAME_LENGTH or not re.fullmatch(NAME_PATTERN.removesuffix("$"), name):
            self._refuse(file, f"'{shown(name)}' is not a name", f"rename the file: {NAME_CURE}")
        elif kind == "recipes" and name.lower() in RESERVED:
            self._refuse(file, f"the name '{name}' is reserved", "rename the file")
        elif (first := self.taken.setdefault((kind, name.lower()), file)) != file:
            self._refuse(file, f"the name '{name}' is taken by {shown_path(first, self.root)}", "rename one of them")

    def _refuse(self, place: Path, fact: str, cure: str) -> None:
        self.problems.append(Problem(shown_path(place, self.root), 1, "", fact, cure))
