"""One trial of retention.py: the pipeline's own steps in folders of their own, and the figure they end with.

A result is one JSON file, written last: what a kill leaves has none, and a training goes on from its last epoch. What
was measured elsewhere counts too where the repository keeps it: see retention_kept.
"""

import contextlib
import fcntl
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import retention_kept
from retention_trials import PROFILE, Told, Trial

from zoo.atomic import write_json
from zoo.data.summary import SUMMARY
from zoo.errors import ZooError
from zoo.job import Job
from zoo.reading.library import Library

WEIGHTS = {"baseline": "source.safetensors", "surgery": "initial.safetensors"}  # what later trials start from


@dataclass(frozen=True)
class Place:
    """Where results and what they were made of lie: artifacts/retention; and the figures that the repository keeps."""

    folder: Path
    library: Library
    kept: Path | None = None

    def file(self, trial: Trial) -> Path:
        """The trial's result."""
        return self.folder / "results" / f"{trial.name}.json"

    def work(self, trial: Trial) -> Path:
        """What its step writes."""
        return self.folder / "work" / trial.name

    def log(self, trial: Trial) -> Path:
        """What its process prints."""
        return self.folder / "logs" / f"{trial.name}.log"

    def result(self, trial: Trial) -> dict[str, Any] | None:
        """What was measured with the settings as they are now; None where it was not, or is not whole."""
        key = Told(self.library, trial).key
        return next(
            (found for found in (self._own(trial), self._elsewhere.get(trial)) if found and found["key"] == key), None
        )

    def results(self) -> dict[Trial, dict[str, Any]]:
        """All that was measured with the settings as they are now; what is no trial any more is passed over."""
        root = self.folder / "results"
        files = root.glob("*/seed-*/*.json")
        own = (Trial.named(file.relative_to(root).as_posix().removesuffix(".json")) for file in files)
        measured = dict.fromkeys(sorted({*own, *self._elsewhere}, key=lambda trial: trial.name))
        known = [trial for trial in measured if trial.is_known and f"{trial.model}_lite" in self.library.recipes]
        return {trial: result for trial in known if (result := self.result(trial))}

    def missing(self, chosen: Sequence[Trial]) -> list[Trial]:
        """Of the trials, each behind what it needs, those to be measured: without a result, or without the weights that
        one of these starts from."""
        missing: dict[Trial, None] = {}
        needed: set[Trial] = set()
        for trial in reversed(chosen):
            if self.result(trial) is None or (trial in needed and not self.is_done(trial)):
                missing[trial] = None
                needed |= {trial.needs} - {None}
        return list(reversed(missing))

    def is_done(self, trial: Trial) -> bool:
        """Whether the result is there and, of what other trials start from, the weights too."""
        weights = WEIGHTS.get(Told(self.library, trial).step)
        return self.result(trial) is not None and (weights is None or (self.work(trial) / weights).is_file())

    def _own(self, trial: Trial) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self.file(trial).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return found

    @cached_property
    def _elsewhere(self) -> dict[Trial, dict[str, Any]]:
        return {} if self.kept is None else retention_kept.read(self.kept)

    def forget(self, trial: Trial) -> None:
        """Remove a result and what it was made from, so that it is measured anew."""
        self._elsewhere.pop(trial, None)
        self.file(trial).unlink(missing_ok=True)
        shutil.rmtree(self.work(trial), ignore_errors=True)


def measure(place: Place, trial: Trial) -> dict[str, Any]:
    """Run the trial's step and write its result; what was there already is not made again.

    Of two processes at the same trial, the second waits for the first. Raises what the step does.
    """
    with _alone(place.folder / "locks" / f"{trial.name}.lock"):
        done = place.result(trial)
        if done is not None and place.is_done(trial):
            return done
        needs = trial.needs
        if needs is not None and not place.is_done(needs):
            raise ZooError(f"{trial.name}: {needs.name} is not there; measure it first")
        result = _measured(place, trial, Told(place.library, trial))
        write_json(place.file(trial), result)
        if not WEIGHTS.get(result["step"]):
            shutil.rmtree(place.work(trial))  # nothing starts from these weights
        return result


def _measured(place: Place, trial: Trial, told: Told) -> dict[str, Any]:
    folder = place.work(trial)
    folder.mkdir(parents=True, exist_ok=True)
    upstream = {"data": _data(place, told)}
    before = trial.needs
    while before is not None:
        upstream[Told(place.library, before).step] = place.work(before)
        before = before.needs
    start = time.perf_counter()
    _run(told.step, trial, folder, place, told.settings, upstream, told.key)
    took = time.perf_counter() - start
    metrics = json.loads((folder / "metrics.json").read_bytes())
    metric = metric_of(told)
    anew = None
    if told.step == "train" and told.settings["schedule"]["statistics"] == "running":
        from retention_settled import settled  # imports torch, and only trials need it

        anew = settled(told.settings, upstream, folder / "model.safetensors")
    curve = folder / "curve.jsonl"
    return {
        "trial": trial.name,
        "key": told.key,
        "step": told.step,
        "metric": metric,
        "value": metrics[metric],
        "settled": anew,
        "seconds": round(took if told.step == "surgery" else metrics["seconds"], 1),  # of interrupted trainings too
        "metrics": metrics,
        "curve": [json.loads(line) for line in curve.read_text().splitlines()] if curve.is_file() else [],
        "settings": told.settings,
    }


def metric_of(told: Told) -> str:
    """The figure that the model's task is known by."""
    metric: str = import_module(f"zoo.tasks.{told.model.recipe.task}").METRIC
    return metric


def _data(place: Place, told: Told) -> Path:
    """The folder of the model's dataset, made where it is not there or was made with other settings."""
    name = told.model.task.dataset
    folder = place.folder / "data" / name
    with _alone(place.folder / "locks" / f"{name}.lock"):
        made, settings = folder / "made.json", told.data
        if not (made.is_file() and json.loads(made.read_bytes()) == settings):
            folder.mkdir(parents=True, exist_ok=True)
            _run("data", None, folder, place, settings, {}, "data")
            write_json(made, settings)
    assert (folder / SUMMARY).is_file()
    return folder


def _run(
    step: str,
    trial: Trial | None,
    folder: Path,
    place: Place,
    settings: Mapping[str, Any],
    upstream: Mapping[str, Path],
    key: str,
) -> None:
    name = trial.name if trial else folder.name
    job = Job(step, name, PROFILE, folder, place.folder, settings, upstream, key)
    import_module(f"zoo.steps.{step}").run(job)


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Inside, no other process is; the system lets go of a lock whose holder died."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
