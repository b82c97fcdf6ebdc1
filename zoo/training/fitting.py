"""One training as JSON: all that a process needs to take its part in it, and what it leaves for the metrics."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import nn

from zoo import tasks
from zoo.config import Config, Launch
from zoo.origin import Origin
from zoo.rebuild import lite_model, read_plan
from zoo.recipe import as_json
from zoo.schedule import Schedule
from zoo.source_model import load_weights, source_model


class Fitting(Config):
    """What is trained, on what and how."""

    name: str  # the model's, for people
    origin: Origin
    plan: Path | None = None  # of the lite model; none: the source itself is trained
    source: Path | None = None  # the source's weights, where it teaches or lends its activations
    is_taught: bool = False
    schedule: Schedule
    launch: Launch = Launch()
    data: Path
    folder: Path  # the step's
    key: str  # of the step: trainings of the same key are the same

    @property
    def partial(self) -> Path:
        """What an interrupted training goes on from."""
        return self.folder / "partial" / self.key[:16]


class Fitted(Config):
    """How it went."""

    epochs: int
    seconds: float  # wall time, that of interrupted runs up to their last checkpoint included
    training: dict[str, Any]  # batch size, learning rate, precision ...; see zoo.training.runner.Trained
    teaching: dict[str, Any]  # what the source gave


def built(fitting: Fitting) -> nn.Module:
    """The model with fresh weights."""
    return source_model(fitting.origin) if fitting.plan is None else lite_model(fitting.origin, read_plan(fitting.plan))


def fit_here(model: nn.Module, fitting: Fitting) -> Fitted:
    """Train the model in place, in this process; raises what zoo.training.runner.train does."""
    from zoo.training.annealing import annealed  # mmengine takes seconds to import, and only this needs it

    schedule = fitting.schedule
    source = _source(fitting) if fitting.is_taught or (fitting.plan and schedule.anneal_epochs) else None
    with ExitStack() as stack:
        annealing = None
        if source is not None and fitting.plan is not None and schedule.anneal_epochs:
            edits = read_plan(fitting.plan).edits
            annealing = stack.enter_context(annealed(model, source, edits, schedule.anneal_epochs))
        trained = tasks.find(fitting.origin.task).fit(
            model,
            fitting.data,
            fitting.origin.preprocessing,
            schedule,
            name=fitting.name,
            folder=fitting.folder,
            key=fitting.key,
            teacher=source if fitting.is_taught else None,
            hooks=() if annealing is None else (annealing,),
        )
    teaching = {
        "distillation": as_json(schedule.distillation) if fitting.is_taught and schedule.distillation else None,
        "stages": list(trained.stages),
        "annealing": None if annealing is None else annealing.to_json(),
    }
    return Fitted(
        epochs=trained.epochs,
        seconds=trained.seconds,
        training={**trained.under, "devices": fitting.launch.devices, "nodes": fitting.launch.nodes},
        teaching=teaching,
    )


def _source(fitting: Fitting) -> nn.Module:
    model = source_model(fitting.origin)
    assert fitting.source is not None
    load_weights(model, fitting.source)
    return model
