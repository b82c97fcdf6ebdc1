"""docs/retention.md, its plot and its figures, of what retention.py has measured so far, and how its goals stand."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import retention_kept
import retention_trials as trials
from retention_ablation import ablations
from retention_figures import GOAL_EPOCHS, SHARE, Figures, Verdict, mean, points, spread, verdicts
from retention_measure import Place
from retention_plot import plot
from retention_table import table
from retention_trials import EPOCHS, MODELS, SEEDS, UNFITTED, Trial
from retention_words import INTRODUCTION, LONG

from zoo.atomic import write_text
from zoo.durations import duration

Results = Mapping[Trial, Mapping[str, Any]]


def goals(place: Place) -> list[str]:
    """A line for each model and goal, from either kind of source."""
    return lines(place.results())


def lines(results: Results) -> list[str]:
    """How the goals stand, of these figures."""
    return [
        f"{each}{', from a source trained for longer' if is_long else ''}"
        for is_long in (False, True)
        for each in verdicts(Figures.among(results, long=is_long), MODELS)
    ]


def write(place: Place, docs: Path) -> list[str]:
    """Write the three files; the lines of `goals`."""
    results = place.results()
    if place.kept is not None:
        retention_kept.write(place.kept, results)
    short, long = (Figures.among(results, long=is_long) for is_long in (False, True))
    chosen = trials.experiment(MODELS, SEEDS, EPOCHS)
    done = sum(each in results for each in chosen)
    spent = duration(sum(result["seconds"] for result in results.values()))
    parts = [
        INTRODUCTION,
        f"Measured so far: {done} of {len(chosen)} figures of the experiment and {len(results) - done} others, in "
        f"{spent} of one thread.\n",
        "![Accuracy over epochs, both arms and the source](retention.svg)\n",
        *section(short),
        LONG,
        *section(long),
    ]
    write_text(docs / "retention.md", "\n".join(parts).rstrip("\n") + "\n")
    write_text(docs / "retention.svg", plot(short, MODELS))
    return lines(results)


def section(figures: Figures) -> list[str]:
    """The goals and the tables, from one kind of source."""
    return [
        "### Goals\n",
        *standing(verdicts(figures, MODELS)),
        "### Right after surgery, before any training\n",
        *untrained_table(figures, MODELS),
        "### After training\n",
        *trained_table(figures, MODELS),
        *ablations(figures),
    ]


def standing(judged: Sequence[Verdict]) -> list[str]:
    """The goals in words, how many are met, and each."""
    count = {stands: sum(each.stands == stands for each in judged) for stands in ("met", "moot", "missed", "open")}
    return [
        "Right after surgery (b) keeps at least 75 % of the source's accuracy where (a) keeps under 20 %; after "
        f"{GOAL_EPOCHS} epochs (b)\nhas lost at most a quarter of the points that (a) has. Where (a) has gained "
        "instead, that holds as soon as (b) has gained\na quarter as much: nothing was there to win back, and the goal "
        "counts as moot; which of the two is ahead is said.\n"
        f"Met {count['met']}, moot {count['moot']}, missed {count['missed']}, not measured {count['open']}.\n",
        *(f"- {each}" for each in judged),
        "",
    ]


def untrained_table(figures: Figures, models: Iterable[str]) -> list[str]:
    """Both arms at 0 epochs, and what they keep."""
    rows = []
    for model in models:
        a, b = figures.arms(model, 0)
        if a:
            kept = [spread(figures.kept(model, values)) for values in (a, b)]
            kept.append(spread(figures.kept(model, figures.of(model, UNFITTED, 0))))
            rows.append([model, figures.metric(model), _source(figures, model), spread(a), spread(b), *kept, _of(a)])
    heads = ["model", "metric", "source", "(a)", "(b)", "(a) keeps", "(b) keeps", "(b) without reconstruction", "seeds"]
    return table(heads, rows)


def trained_table(figures: Figures, models: Iterable[str]) -> list[str]:
    """Both arms after training, the points they have lost, and (b)'s as a share of (a)'s where (a) has lost any."""
    rows = []
    for model in models:
        for epochs in EPOCHS[1:]:
            a, b = figures.arms(model, epochs)
            if a:
                lost = [figures.lost(model, values) for values in (a, b)]
                share = _share(*map(mean, lost))
                both = [spread(a), spread(b), *(spread(each, "") for each in lost)]
                beside = (figures.of(model, UNFITTED, epochs), figures.settled(model, epochs))
                more = [spread(figures.lost(model, values), "") for values in beside]
                rows.append([model, str(epochs), _source(figures, model), *both, share, *more, _of(a)])
    heads = ["model", "epochs", "source", "(a)", "(b)", "points lost by (a)", "by (b)", "(b) of (a)"]
    heads += ["by (b) without reconstruction", "by (a), measured anew", "seeds"]
    goal = f"At {GOAL_EPOCHS} epochs the share is to be {SHARE * 100:.0f} % at most.\n"
    return [goal, *table(heads, rows)]


def _share(lost_by_a: float, lost_by_b: float) -> str:
    if lost_by_a <= 0:
        return "(a) lost none"
    return f"{points(lost_by_b / lost_by_a)} %" if lost_by_b > 0 else "(b) lost none"


def _source(figures: Figures, model: str) -> str:
    return f"{points(figures.source(model) or 0.0)} %"


def _of(values: Iterable[int]) -> str:
    return f"{len(list(values))} of {len(SEEDS)}"
