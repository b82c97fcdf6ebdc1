"""What the experiment of retention.py consists of: trials, what is on in each, in which order. Imports no framework."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from zoo import plan
from zoo.reading.library import Library
from zoo.records import key_of

MODELS = ("mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0", "convnext_atto", "yolov8_n")
SEEDS, EPOCHS = (0, 1, 2), (0, 1, 2, 5)
FIRST = frozenset({0, 2})  # epochs that the goals are about, measured before the others
ABLATED, ABLATION_EPOCHS = ("mobilenet_v3_small",), 2
PROFILE = "demo"
# Images that measure: 1,000 and 300, as a build has them, tell no difference below a point.
VAL = {"digit_scenes": 3000, "digit_scenes_detection": 600}

SOURCE, NOTHING = "source", "none"
SOURCE_SEED = 0  # a published model is one, whatever is then done to it
# Sources that more training gives little, as published ones are. They are fine-tuned at a share of their own
# learning rate, as configs/schedules/finetune_30 is at one of classification_150's.
LONG_EPOCHS = {
    "mobilenet_v3_small": 16,
    "mobilenet_v3_large": 10,
    "efficientnet_b0": 8,
    "convnext_atto": 12,
    "yolov8_n": 8,
}
OTHER_LONG = 3  # of a model that is not among them, times the profile's
LONG_RATE = 0.2
LONG_STEPS = 600  # of reconstruction, where the profile's schedule has any; as finetune_30 has
OWN = None  # what the recipe and the profile's schedule say, unchanged

# Of the warm start, everything and nothing. The steps see about as many batches as an epoch of the digit scenes has.
RECONSTRUCTION_STEPS = 150
ALL = {
    "gates": True,
    "norms": True,
    "statistics": True,
    "refit": True,
    "reconstruction_steps": RECONSTRUCTION_STEPS,
}
OFF = {part: type(on)() for part, on in ALL.items()}
PARTS = tuple(ALL)

# What a lite model starts from, as changes of the surgery step's warm start.
STARTS: Mapping[str, Mapping[str, Any] | None] = {
    "bare": OFF,
    "warm": OWN,
    "all": ALL,
    **{f"only_{part}": OFF | {part: ALL[part]} for part in PARTS},
    **{f"all_but_{part}": ALL | {part: OFF[part]} for part in PARTS},
    **{f"default_but_{part}": {part: OFF[part]} for part in PARTS if part != "refit"},  # of the recipe and its schedule
}

FEATURES, ANNEAL_EPOCHS = 0.5, 1.0


@dataclass(frozen=True)
class Training:
    """Changes in the profile's fine-tuning schedule; all that is not named is the schedule's own."""

    teacher: bool
    statistics: str = "measured"  # of BatchNorm, or its running averages
    distillation: Mapping[str, Any] | None = None  # of the schedule's own
    anneal_epochs: float | None = None


TRAININGS = {
    "plain": Training(teacher=False, statistics="running"),
    "untaught": Training(teacher=False),
    "taught": Training(teacher=True),
    "features": Training(teacher=True, distillation={"weight": 0.0, "features": FEATURES}),
    "annealed": Training(teacher=False, anneal_epochs=ANNEAL_EPOCHS),
    "together": Training(teacher=True, distillation={"features": FEATURES}, anneal_epochs=ANNEAL_EPOCHS),
}

ARMS = {"a": ("bare", "plain"), "b": ("warm", "taught")}
# The path without its reconstruction, which takes as long as an epoch: no arm, but told beside (b).
UNFITTED = ("default_but_reconstruction_steps", "taught")
# Of the second ablation: what is on beside gates, norms and statistics.
_BEFORE, _FITTED, _REFIT = UNFITTED[0], "warm", "all_but_reconstruction_steps"
TEACHING = {
    "nothing more": (_BEFORE, "untaught"),
    "logits": UNFITTED,
    "features": (_BEFORE, "features"),
    "reconstruction": (_FITTED, "untaught"),
    "annealing": (_BEFORE, "annealed"),
    "logits after reconstruction": (_FITTED, "taught"),
    "logits after a refit": (_REFIT, "taught"),
    "all four together": (_FITTED, "together"),
}


@dataclass(frozen=True)
class Trial:
    """One figure: a model and a seed, what it starts from, how it is trained and for how many epochs.

    ``is_long``: its source is the one of LONG_EPOCHS.
    """

    model: str
    seed: int
    start: str
    training: str = NOTHING
    epochs: int = 0
    is_long: bool = False

    @property
    def name(self) -> str:
        """Also a path."""
        long = "-long" if self.is_long else ""
        return f"{self.model}/seed-{self.seed}{long}/{self.start}.{self.training}.{self.epochs}"

    @classmethod
    def named(cls, name: str) -> "Trial":
        """The trial of that name; raises ValueError."""
        model, seed, rest = name.split("/")
        start, training, epochs = rest.split(".")
        number, dash, long = seed.removeprefix("seed-").partition("-")
        if dash and long != "long":
            raise ValueError(f"{name}: no trial is '{long}'")
        return cls(model, int(number), start, training, int(epochs), bool(dash))

    @property
    def is_known(self) -> bool:
        """Whether its start and its training are still among those here."""
        return self.start in {SOURCE, *STARTS} and self.training in {NOTHING, *TRAININGS}

    @property
    def needs(self) -> "Trial | None":
        """What has to be there before."""
        if self.start == SOURCE:
            return None
        if self.epochs:
            return replace(self, training=NOTHING, epochs=0)
        return replace(source(self.model), is_long=self.is_long)


def source(model: str) -> Trial:
    """What all of a model's trials start from."""
    return Trial(model, SOURCE_SEED, SOURCE)


def trial(model: str, seed: int, arm: tuple[str, str], epochs: int) -> Trial:
    """Of an arm; before any training, what it starts from is all there is."""
    start, training = arm
    return Trial(model, seed, start, training if epochs else NOTHING, epochs)


def long(chosen: Iterable[Trial]) -> list[Trial]:
    """The same from the sources of LONG_EPOCHS."""
    return [replace(each, is_long=True) for each in chosen]


def experiment(models: Sequence[str], seeds: Sequence[int], epochs: Sequence[int]) -> list[Trial]:
    """Both arms: first what the goals are about, of all models with the first seed, with the others; then the rest."""
    parts = [tuple(each for each in epochs if (each in FIRST) is first) for first in (True, False)]
    found = (
        trial(model, seed, arm, each)
        for part in parts
        for seed in seeds
        for model in models
        for each in part
        for arm in ARMS.values()
    )
    return with_needs(found)


def is_reconstructed(library: Library, model: str) -> bool:
    """Whether (b) is, as a build does it."""
    settings = Told(library, Trial(model, 0, "warm")).settings
    return bool(settings["surgery"]["warm_start"]["reconstruction_steps"])


def unfitted(models: Sequence[str], seeds: Sequence[int]) -> list[Trial]:
    """(b) without reconstruction, at the epochs that the goals are about."""
    return with_needs(
        trial(model, seed, UNFITTED, epochs) for seed in seeds for model in models for epochs in sorted(FIRST)
    )


def ablation(models: Sequence[str], seeds: Sequence[int]) -> list[Trial]:
    """Each part of the warm start alone and off, untrained; then what training may add; seed by seed."""

    def found() -> Iterator[Trial]:
        for seed in seeds:
            for model in models:
                yield from (Trial(model, seed, start) for start in STARTS)
                yield from (trial(model, seed, arm, ABLATION_EPOCHS) for arm in TEACHING.values())

    return with_needs(found())


def with_needs(trials: Iterable[Trial]) -> list[Trial]:
    """Each once, what it needs before it."""
    found: dict[Trial, None] = {}

    def add(each: Trial) -> None:
        if each.needs is not None:
            add(each.needs)
        found.setdefault(each)

    for each in trials:
        add(each)
    return list(found)


@dataclass(frozen=True)
class Told:
    """What the steps of the pipeline are told in a trial, exactly as in a build but for the arm's changes."""

    library: Library
    trial: Trial

    @cached_property
    def model(self) -> plan.Model:
        """The recipe in the demo profile."""
        return plan.model(self.library, f"{self.trial.model}_lite", PROFILE)

    @property
    def step(self) -> str:
        """The one that makes what this trial measures."""
        if self.trial.start == SOURCE:
            return "baseline"
        return "train" if self.trial.epochs else "surgery"

    @property
    def data(self) -> dict[str, Any]:
        """Of the data step, but for how many images measure; they are the same whatever the seed."""
        name = self.model.task.dataset
        settings = plan.data_settings(name, self.model.dataset)
        settings["dataset"]["parameters"] |= {"val": VAL[name]}
        return settings

    @property
    def settings(self) -> dict[str, Any]:
        """Of the step: the build's, the seed and the arm's changes."""
        settings = deepcopy(plan.STEPS[self.step].settings(self.model))
        if self.step == "surgery":
            settings["seed"] = self.trial.seed
            changed = STARTS[self.trial.start]
            parts = settings["surgery"]["warm_start"]
            if self.trial.is_long and parts["reconstruction_steps"]:
                parts["reconstruction_steps"] = LONG_STEPS
            parts |= {} if changed is OWN else changed
            return settings
        schedule = settings["schedule"]
        schedule["seed"] = self.trial.seed
        if self.trial.is_long and self.step == "baseline":
            schedule["epochs"] = LONG_EPOCHS.get(self.trial.model, OTHER_LONG * schedule["epochs"])
        if self.step == "train":
            if self.trial.is_long:
                source = plan.STEPS["baseline"].settings(self.model)["schedule"]
                schedule["optimizer"]["lr"] = LONG_RATE * source["optimizer"]["lr"]
            training = TRAININGS[self.trial.training]
            settings["teacher"] = training.teacher
            schedule["epochs"] = self.trial.epochs
            schedule["statistics"] = training.statistics
            own = schedule["distillation"] or {}
            schedule["distillation"] = own | dict(training.distillation or {}) if training.teacher else None
            if training.anneal_epochs is not None:
                schedule["anneal_epochs"] = training.anneal_epochs
        return settings

    @cached_property
    def key(self) -> str:
        """Of all that the figure was made of but for code and libraries."""
        needs = self.trial.needs
        before = self.data if needs is None else Told(self.library, needs).key
        return key_of({"settings": self.settings, "before": before})
