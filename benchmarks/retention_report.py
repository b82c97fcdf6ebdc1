"""docs/retention.md, its plot and its figures, of what retention.py has measured so far, and how its goals stand."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import retention_kept
import retention_trials as trials
from retention_ablation import ablations
from retention_figures import GOAL_EPOCHS, SHARE, Figures, Verdict, mean, points, spread, verdicts
from retention_measure import Place
from retention_plot import plot
from retention_table import table
from retention_trials import EPOCHS, MODELS, SEEDS

from zoo.atomic import write_text
from zoo.durations import duration

INTRODUCTION = """\
# What surgery and training keep of a model's accuracy

Written by `python benchmarks/retention.py --report`; `python benchmarks/retention.py` measures, and goes on with what
is missing. The images are digit scenes, a stand-in: what is compared here are two ways of doing the same thing to the
same models for the same number of epochs, not accuracies on real data.

- **Source**: one for each model, as a published model is one, trained here from scratch as the demo profile trains it.
  The seed decides on the order of the images, their augmentation, and which of them a warm start is measured on; the
  images are always the same.
- **(a) bare replacement**: every layer that the rules replace gives way to its replacement, and nothing is measured: a
  removed gate is an identity, BatchNorm keeps the source's statistics or, where it is new, those it is made with. Then
  plain training on the labels, from the source's other weights. A convolution that can be split exactly is split
  exactly here too, since that is no option.
- **(b) this project's path**: surgery as the recipe has it (mean gates folded, new BatchNorm fitted, its statistics
  measured anew, on images without labels), then the same training with the source as teacher: of its logits or, for
  a detector, of what its neck gives.
- **Equal in both**: the profile's fine-tuning schedule (optimizer, learning rate, warm-up, moving average of the
  weights), the augmentation, the seeds and the number of epochs. Each number of epochs is a training of its own, whose
  learning rate falls to zero at its end. What the teacher's forward costs comes on top in (b).
- **BatchNorm after training**: a task's own training ends with measuring BatchNorm's statistics anew. That is part of
  the training of both arms, which favours (a). At 0 epochs nothing of (a) is measured anew.
- **Measured** are the weights after the last epoch, none chosen by their accuracy, by the task's own metric on all
  validation images. Points lost are the source's accuracy minus the model's. They are negative where a model gained:
  its epochs come on top of the source's. Guessing one of ten classes is right in 10 %.

Figures are means over the seeds, in brackets the smallest and the largest.
"""


def goals(place: Place) -> list[str]:
    """A line for each model and goal."""
    return [str(each) for each in verdicts(Figures(place.results()), MODELS)]


def write(place: Place, docs: Path) -> list[str]:
    """Write the three files; the lines of `goals`."""
    results = place.results()
    if place.kept is not None:
        retention_kept.write(place.kept, results)
    figures = Figures(results)
    chosen = trials.experiment(MODELS, SEEDS, EPOCHS)
    done = sum(each in results for each in chosen)
    spent = duration(sum(result["seconds"] for result in results.values()))
    judged = verdicts(figures, MODELS)
    parts = [
        INTRODUCTION,
        f"Measured so far: {done} of {len(chosen)} figures of the experiment and {len(results) - done} others, in "
        f"{spent} of one thread.\n",
        "![Accuracy over epochs, both arms and the source](retention.svg)\n",
        "## Goals\n",
        *standing(judged),
        "## Right after surgery, before any training\n",
        *untrained_table(figures, MODELS),
        "## After training\n",
        *trained_table(figures, MODELS),
        *ablations(figures),
    ]
    write_text(docs / "retention.md", "\n".join(parts).rstrip("\n") + "\n")
    write_text(docs / "retention.svg", plot(figures, MODELS))
    return [str(each) for each in judged]


def standing(judged: Sequence[Verdict]) -> list[str]:
    """The goals in words, how many are met, and each."""
    count = {stands: sum(each.stands == stands for each in judged) for stands in ("met", "missed", "open")}
    return [
        "Right after surgery (b) keeps at least 75 % of the source's accuracy where (a) keeps under 20 %; after "
        f"{GOAL_EPOCHS} epochs (b)\nhas lost at most a quarter of the points that (a) has. Met {count['met']}, missed "
        f"{count['missed']}, not measured {count['open']}.\n",
        *(f"- {each}" for each in judged),
        "",
    ]


def untrained_table(figures: Figures, models: Iterable[str]) -> list[str]:
    """Both arms at 0 epochs, and what they keep."""
    rows = []
    for model in models:
        a, b = figures.arms(model, 0)
        if a:
            kept = (spread(figures.kept(model, values)) for values in (a, b))
            rows.append([model, figures.metric(model), _source(figures, model), spread(a), spread(b), *kept, _of(a)])
    return table(["model", "metric", "source", "(a)", "(b)", "(a) keeps", "(b) keeps", "seeds"], rows)


def trained_table(figures: Figures, models: Iterable[str]) -> list[str]:
    """Both arms after training, the points they have lost, and (b)'s as a share of (a)'s where (a) has lost any."""
    rows = []
    for model in models:
        for epochs in EPOCHS[1:]:
            a, b = figures.arms(model, epochs)
            if a:
                lost = [figures.lost(model, values) for values in (a, b)]
                share = f"{points(mean(lost[1]) / mean(lost[0]))} %" if mean(lost[0]) > 0 else "(a) lost none"
                both = [spread(a), spread(b), *(spread(each, "") for each in lost)]
                rows.append([model, str(epochs), _source(figures, model), *both, share, _of(a)])
    heads = ["model", "epochs", "source", "(a)", "(b)", "points lost by (a)", "by (b)", "(b) of (a)", "seeds"]
    goal = f"At {GOAL_EPOCHS} epochs the share is to be {SHARE * 100:.0f} % at most.\n"
    return [goal, *table(heads, rows)]


def _source(figures: Figures, model: str) -> str:
    return f"{points(figures.source(model) or 0.0)} %"


def _of(values: Iterable[int]) -> str:
    return f"{len(list(values))} of {len(SEEDS)}"
