"""Whether the batch of every training divides over what computes it: devices of nodes, and parts one after another."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from zoo.config import Launch, Profile, ProfileTask
from zoo.errors import Problem
from zoo.reading.document import Document, Location
from zoo.reading.values_at import value_at
from zoo.recipe import Recipe
from zoo.schedule import Schedule

OWN = ("batch_size", "devices", "nodes", "launcher", "schedule")  # of a recipe's train, what decides of its parts

Documents = Mapping[str, Mapping[str, Document]]  # kind -> name -> document


def problems(documents: Documents, models: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
    """Every batch that does not divide, where it is said, and every launch of many that launches none.

    Files that are themselves wrong are not asked.
    """
    for name, schedule in models["schedules"].items():
        yield from _of_schedule(documents["schedules"][name], schedule)
    for name, profile in models["profiles"].items():
        yield from _of_launch(documents["profiles"][name], ("launch",), profile.launch)
    found: dict[tuple[str, str], Problem] = {}
    for use in _uses(documents, models):
        for problem in use.problems():
            found.setdefault((problem.file, problem.path), problem)  # many models, one place
    yield from found.values()


@dataclass(frozen=True)
class _Use:
    """A training of a model in a profile."""

    recipe_file: Document
    profile_file: Document
    recipe: Recipe
    profile: Profile
    part: Literal["baseline", "train"]
    place: Location  # in the profile, where the schedule is named
    schedule: Schedule

    def problems(self) -> Iterator[Problem]:
        launch = self.recipe.train.launched(self.profile.launch)
        schedule = self.recipe.train.changed(self.schedule) if self.part == "train" else self.schedule
        computing = launch.devices * launch.nodes if launch.launcher == "torchrun" else 1
        if any(getattr(self.recipe.train, field) is not None for field in ("launcher", "devices", "nodes")):
            yield from _of_launch(self.recipe_file, ("train",), launch)
        if schedule.batch_size % (schedule.accumulate * computing):
            fact = f"a batch of {schedule.batch_size} does not divide into {_described(schedule, launch)}"
            yield self._problem(fact, "change batch_size, devices, nodes or the schedule's accumulate")
        elif schedule.batch_size == computing > 1 and (schedule.mixup or schedule.cutmix):
            fact = f"a batch of {schedule.batch_size} on {computing} devices is one image each, mixed with itself"
            yield self._problem(fact, "raise batch_size, or name a schedule without mixup and cutmix")

    def _problem(self, fact: str, cure: str) -> Problem:
        own = next((name for name in OWN if value_at(self.recipe_file, ("train", name)) is not None), None)
        if own is not None:
            return self.recipe_file.problem(("train", own), fact, cure)
        return self.profile_file.problem(self.place, fact, cure)


def _of_schedule(document: Document, schedule: Schedule) -> Iterator[Problem]:
    if schedule.batch_size % schedule.accumulate:
        fact = f"a batch of {schedule.batch_size} does not divide into {schedule.accumulate} parts"
        yield document.problem(("accumulate",), fact, "choose parts of the same size")


def _of_launch(document: Document, place: Location, launch: Launch) -> Iterator[Problem]:
    if launch.launcher == "none" and launch.devices * launch.nodes > 1:
        field = "devices" if launch.devices > 1 else "nodes"
        fact = f"{launch.devices * launch.nodes} processes, but nothing launches them"
        yield document.problem((*place, field), fact, "add 'launcher: torchrun'")


def _uses(documents: Documents, models: Mapping[str, Mapping[str, Any]]) -> Iterator[_Use]:
    for name, recipe in models["recipes"].items():
        for profile_name, profile in models["profiles"].items():
            if recipe.task not in profile.tasks:
                continue
            files = (documents["recipes"][name], documents["profiles"][profile_name])
            for part, place, schedule in _schedules(name, recipe, profile):
                known = models["schedules"].get(schedule)
                # One that does not divide by itself has been told.
                if known is not None and not known.batch_size % known.accumulate:
                    yield _Use(*files, recipe, profile, part, place, known)


def _schedules(
    name: str, recipe: Recipe, profile: Profile
) -> Iterator[tuple[Literal["baseline", "train"], Location, str]]:
    """Which trainings there are: what it is, where the profile names its schedule, and that."""
    task: ProfileTask = profile.tasks[recipe.task]
    own = profile.models.get(name)
    if baseline := (own and own.baseline) or task.baseline:
        place = ("models", name) if own and own.baseline else ("tasks", recipe.task)
        yield "baseline", (*place, "baseline"), baseline
    place = ("models", name) if own and own.train else ("tasks", recipe.task)
    yield "train", (*place, "train"), recipe.train.schedule or (own and own.train) or task.train


def _described(schedule: Schedule, launch: Launch) -> str:
    parts = f"{schedule.accumulate} parts" if schedule.accumulate > 1 else ""
    devices = f"{launch.devices * launch.nodes} devices" if launch.launcher == "torchrun" else ""
    return " on each of ".join(each for each in (parts, devices) if each)
