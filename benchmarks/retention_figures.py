"""The figures of retention.py, seed by seed, and how its goals stand."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from retention_trials import ARMS, SEEDS, Trial, source, trial

from zoo.metric_names import spelt

KEPT, BARELY, SHARE = 0.75, 0.20, 0.25  # the goals'
GOAL_EPOCHS = 2
ROUNDING = 1e-9  # of means over seeds

Seeds = Mapping[int, float]  # a figure of each seed


@dataclass(frozen=True)
class Figures:
    """What was measured, by trial, from one kind of source."""

    results: Mapping[Trial, Mapping[str, Any]]

    @classmethod
    def among(cls, results: Mapping[Trial, Mapping[str, Any]], *, long: bool) -> "Figures":
        """Those from the sources that are trained for longer, or those from the others."""
        return cls({replace(each, is_long=False): own for each, own in results.items() if each.is_long is long})

    def metric(self, model: str) -> str:
        """What the model's figures are, for people."""
        return next((spelt(result["metric"]) for each, result in self.results.items() if each.model == model), "")

    def seeds(self, model: str) -> list[int]:
        """Those of which anything was measured."""
        return sorted({each.seed for each in self.results if each.model == model})

    def source(self, model: str) -> float | None:
        """The source's, which all seeds start from; None where it was not measured."""
        found = self.results.get(source(model))
        return None if found is None else float(found["value"])

    def of(self, model: str, arm: tuple[str, str], epochs: int) -> Seeds:
        """An arm's, where the source is there to compare it with."""
        if self.source(model) is None:
            return {}
        measured = {seed: self.results.get(trial(model, seed, arm, epochs)) for seed in self.seeds(model)}
        return {seed: float(own["value"]) for seed, own in measured.items() if own is not None}

    def settled(self, model: str, epochs: int) -> Seeds:
        """(a)'s with BatchNorm's statistics measured anew behind the training; before any, nothing is measured."""
        a = ARMS["a"]
        own = {seed: self.results[trial(model, seed, a, epochs)].get("settled") for seed in self.of(model, a, epochs)}
        return {seed: float(value) for seed, value in own.items() if value is not None}

    def arms(self, model: str, epochs: int) -> tuple[Seeds, Seeds]:
        """Both arms', of the seeds that have both."""
        a, b = (self.of(model, ARMS[arm], epochs) for arm in ("a", "b"))
        return {seed: a[seed] for seed in a if seed in b}, {seed: b[seed] for seed in b if seed in a}

    def kept(self, model: str, values: Seeds) -> Seeds:
        """Shares of the source's."""
        whole = self.source(model)
        return {seed: value / whole if whole else 0.0 for seed, value in values.items()}

    def lost(self, model: str, values: Seeds) -> Seeds:
        """The source's minus these."""
        whole = self.source(model) or 0.0
        return {seed: whole - value for seed, value in values.items()}


@dataclass(frozen=True)
class Verdict:
    """How a goal stands for a model."""

    stands: Literal["met", "moot", "missed", "open"]
    model: str
    words: str

    def __str__(self) -> str:
        return f"{self.stands}: {self.model}, {self.words}"


def verdicts(figures: Figures, models: Sequence[str]) -> list[Verdict]:
    """Both goals of each model; open where it was not measured, moot where (a) has lost nothing that (b) could win."""
    return [judged(figures, model) for judged in (untrained, trained) for model in models]


def untrained(figures: Figures, model: str) -> Verdict:
    """Before any training (b) keeps at least KEPT of the source's accuracy, where (a) keeps less than BARELY.

    Where (a) keeps more, (b) is held to its part all the same, and the words say what (a) keeps.
    """
    a, b = (figures.kept(model, values) for values in figures.arms(model, 0))
    if not a:
        return Verdict("open", model, "before training: not measured")
    words = f"before training (b) keeps {points(mean(b))} % of the source's, goal {KEPT * 100:.0f} %; "
    words += f"(a) {points(mean(a))} %"
    words += "" if mean(a) < BARELY else f", not under {BARELY * 100:.0f} %"
    return Verdict("met" if mean(b) >= KEPT - ROUNDING else "missed", model, words + _seeds(a))


def trained(figures: Figures, model: str) -> Verdict:
    """After GOAL_EPOCHS, (b) has lost at most SHARE of the points that (a) has; a gain is a loss below zero.

    Where (a) has lost none, the words say which of the two is ahead, and what is not missed is moot.
    """
    a, b = (figures.lost(model, values) for values in figures.arms(model, GOAL_EPOCHS))
    if not a:
        return Verdict("open", model, f"after {GOAL_EPOCHS} epochs: not measured")
    words = f"after {GOAL_EPOCHS} epochs (b) has lost {points(mean(b))} points, (a) {points(mean(a))}, "
    stands: Literal["met", "moot", "missed"] = "met" if mean(b) <= SHARE * mean(a) + ROUNDING else "missed"
    words += f"goal {points(SHARE * mean(a))}"
    if mean(a) <= 0:
        ahead = mean(a) - mean(b)
        words += f", where (b) is {'ahead' if ahead >= 0 else 'behind'} by {points(abs(ahead))}"
        stands = "moot" if stands == "met" else stands
    if settled := figures.lost(model, figures.settled(model, GOAL_EPOCHS)):
        words += f"; with its statistics measured anew (a) {points(mean(settled))}"
    return Verdict(stands, model, words + _seeds(a))


def _seeds(values: Seeds) -> str:
    return "" if len(values) >= len(SEEDS) else f" ({len(values)} of {len(SEEDS)} seeds)"


def mean(values: Mapping[int, float] | Iterable[float]) -> float:
    """Of the seeds."""
    return statistics.fmean(values.values() if isinstance(values, Mapping) else values)


def points(share: float) -> str:
    """A difference of shares in points."""
    return f"{100 * share:.1f}".replace("-0.0", "0.0")


def spread(values: Seeds, unit: str = " %") -> str:
    """The mean, the smallest and the largest in brackets where there are several; a dash for none."""
    if not values:
        return "-"
    ends = f" ({points(min(values.values()))} to {points(max(values.values()))})" if len(values) > 1 else ""
    return f"{points(mean(values))}{unit}{ends}"
