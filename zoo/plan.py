"""The pipeline as one table: its steps, their order, what they read and which settings they see."""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from zoo import layouts
from zoo.config import Config, Dataset, Launch, ProfileTask
from zoo.errors import UnknownName, did_you_mean
from zoo.reading.library import Library
from zoo.recipe import Recipe, as_json
from zoo.schedule import Schedule
from zoo.targets.target import Target

Settings = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """One recipe in one profile: all that the steps' settings are taken from."""

    name: str
    recipe: Recipe
    profile: str
    library: Library

    @cached_property
    def task(self) -> ProfileTask:
        """Which data and schedules the model uses: its task's, and those that the profile has for it alone."""
        profile = self.library.profiles[self.profile]
        own = profile.models.get(self.name)
        changes = own.model_dump(exclude_none=True) if own else {}
        return profile.tasks[self.recipe.task].model_copy(update=changes)

    @property
    def dataset(self) -> Dataset:
        """What the model is trained and measured on."""
        return self.library.datasets[self.task.dataset]

    @property
    def target(self) -> Target:
        """The device the model is for."""
        return self.library.targets[self.recipe.target]

    @cached_property
    def schedule(self) -> Schedule:
        """The profile's fine-tuning schedule with the recipe's changes."""
        return self.recipe.train.changed(self._unchanged)

    @property
    def learning_rate_scaled_from(self) -> str:
        """What that schedule's learning rate was scaled from, with its batch size; nothing where it was not."""
        return self.recipe.train.scaled_from(self._unchanged)

    @property
    def launch(self) -> Launch:
        """On which devices the model is trained: the profile's, with the recipe's changes."""
        return self.recipe.train.launched(self.library.profiles[self.profile].launch)

    @property
    def _unchanged(self) -> Schedule:
        return self.library.schedules[self.recipe.train.schedule or self.task.train]

    @property
    def baseline_schedule(self) -> Schedule | None:
        """What the source model is trained with; None where it comes with published weights."""
        return self.library.schedules[self.task.baseline] if self.task.baseline else None

    @property
    def used(self) -> tuple[tuple[str, str], ...]:
        """Which of the modules that are found by name this model uses."""
        return (
            ("zoo.sources", self.recipe.source.library),
            ("zoo.tasks", self.recipe.task),
            ("zoo.layouts", self.dataset.layout),
        )


def model(library: Library, name: str, profile: str) -> Model:
    """A recipe in a profile."""
    return Model(name, library.recipes[name], profile, library)


def without_words(part: Config) -> Settings:
    """The settings of a config without what is only for people, so that rewording it runs nothing again."""
    words = {"description": "", "licence": "", "homepage": None, "source": "", "files_digest": None}
    fields = type(part).model_fields
    return as_json(part) | {name: empty for name, empty in words.items() if name in fields}


def data_settings(name: str, dataset: Dataset) -> Settings:
    """Of the data step, which is a dataset's and not a model's."""
    return {"dataset": without_words(dataset) | {"evaluation": None}, "name": name, "folder": _state(dataset)}


def _state(dataset: Dataset) -> Settings | None:
    """Which folder a dataset of the user's is, and whether it changed.

    Its folders' times tell whether an image came or went; those of its lists and annotations tell of edits inside.
    """
    if dataset.root is None:
        return None
    expanded = os.path.expanduser(os.path.expandvars(dataset.root))  # noqa: PTH111 - Path.expanduser raises for unknown users
    folder = Path(expanded)
    patterns = ("*/", "*/*/", *layouts.find(dataset.layout).INDEXES)
    inside = sorted(place for pattern in patterns for place in folder.glob(pattern)) if expanded else []
    times = "".join(f"{place.relative_to(folder)} {place.lstat().st_mtime_ns}\n" for place in inside)
    return {"path": expanded, "times": hashlib.sha256(times.encode("utf-8", "surrogateescape")).hexdigest()}


def _checkpoint_state(model: Model) -> Settings:
    """Of a recipe's own file of weights, where it is used: its size and time, which tell that it was replaced."""
    checkpoint = model.recipe.source.checkpoint
    if checkpoint is None or "://" in checkpoint or model.library.profiles[model.profile].weights != "published":
        return {}
    try:
        found = os.stat(os.path.expanduser(checkpoint))  # noqa: PTH111, PTH116 - as in _state
    except OSError:
        return {"checkpoint": None}
    return {"checkpoint": [found.st_size, found.st_mtime_ns]}


def _baseline(model: Model) -> Settings:
    schedule = model.baseline_schedule
    return _checkpoint_state(model) | {
        "source": as_json(model.recipe.source),
        "task": model.recipe.task,
        "dataset": without_words(model.dataset) | {"expected": {}},
        "dataset_name": model.task.dataset,
        "weights": model.library.profiles[model.profile].weights,
        "input_size": model.task.input_size,
        "schedule": _training(schedule) if schedule else None,
        "launch": as_json(model.launch) if schedule else None,
    }


def _training(schedule: Schedule) -> Settings:
    """The schedule but for what is done before the first epoch, which is the surgery step's."""
    return {name: value for name, value in without_words(schedule).items() if name != "reconstruction_steps"}


def _surgery(model: Model) -> Settings:
    schedule, chosen = model.schedule, model.recipe.surgery
    own: Settings = {"surgery": as_json(chosen), "batch_size": schedule.batch_size, "seed": schedule.seed}
    if chosen.warm_start.reconstruction_steps is None:
        own["surgery"]["warm_start"]["reconstruction_steps"] = schedule.reconstruction_steps
    return own | _judged(model) if chosen.rules == "auto" else own


def _judged(model: Model) -> Settings:
    """What is linted, for which device, and what the recipe leaves to its host."""
    return _written(model) | {
        "target_name": model.recipe.target,
        "target_sha256": model.library.target_digests[model.recipe.target],
        "device": model.recipe.device or "",
        "left": dict(model.recipe.left),
    }


def _written(model: Model) -> Settings:
    """How the ONNX file is written, which the check does too."""
    export, target = model.recipe.export, model.target
    return {
        "export": as_json(export),
        "opset": export.opset or target.opset.export,
        "ir_version": target.ir_version,
    }


def _train(model: Model) -> Settings:
    return {
        "schedule": _training(model.schedule),
        "learning_rate_scaled_from": model.learning_rate_scaled_from,
        "teacher": model.recipe.train.teacher,
        "launch": as_json(model.launch),
    }


def _export(model: Model) -> Settings:
    return _written(model)


def _release(model: Model) -> Settings:
    return {
        "name": model.name,
        "description": model.recipe.description,
        "recipe": model.recipe.model_dump(mode="json", exclude={"accept"}),
        "accept": as_json(model.recipe.accept),
        "schedules": {"source": model.task.baseline or "", "lite": model.recipe.train.schedule or model.task.train},
        "dataset_name": model.task.dataset,
        "dataset_licence": model.dataset.licence,
        "target_name": model.recipe.target,
        "device": model.recipe.device or "",
        "left": dict(model.recipe.left),
        "targets": dict(model.library.target_digests),  # all of them: a new one makes a release say more, no training
        "profile": model.profile,
    }


def _index(_: Model) -> Settings:
    return {}


# What steps leave for people, which the release alone passes on: a target that says it in other words trains nothing,
# nor does a step that was run again, took longer and left the same weights.
TOLD = frozenset({"explanation.json", "metrics.json", "report.json", "curve.jsonl"})


@dataclass(frozen=True)
class Step:
    """One stage: what must be done before it, what it reads, what it is told."""

    after: tuple[str, ...]
    reads: tuple[str, ...]  # upstream steps whose outputs enter its key
    settings: Callable[[Model], Settings]
    passes_over: frozenset[str] = TOLD  # files of those steps that nothing it makes depends on


STEPS: Mapping[str, Step] = {
    "baseline": Step(after=("data",), reads=("data",), settings=_baseline),
    "surgery": Step(after=("baseline",), reads=("data", "baseline"), settings=_surgery),
    "check": Step(after=("surgery",), reads=("data", "baseline", "surgery"), settings=_judged),
    # A model that fails its check is not worth training, but what the check says does not change the training.
    "train": Step(after=("check",), reads=("data", "baseline", "surgery"), settings=_train),
    "export": Step(after=("train",), reads=("data", "baseline", "surgery", "train"), settings=_export),
    "release": Step(
        after=("export",),
        reads=("data", "baseline", "surgery", "check", "train", "export"),
        settings=_release,
        passes_over=frozenset(),
    ),
    "index": Step(after=("release",), reads=("release",), settings=_index),
}

TIMEOUT_MINUTES = 240  # where a profile says nothing


def timeout_minutes(library: Library, profile: str, step: str) -> int:
    """How long a step may take before it counts as hanging."""
    limits = library.profiles[profile].timeout_minutes
    return limits.get(step, limits.get("default", TIMEOUT_MINUTES))


def check_profile(library: Library, name: str) -> None:
    """Raises UnknownName for a profile that does not exist."""
    if name not in library.profiles:
        cure = did_you_mean(name, library.profiles)
        raise UnknownName(f"profile={name}: there is no configs/profiles/{name}.yaml; {cure}")
