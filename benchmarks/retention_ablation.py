"""What each part of this project's path gives: the tables of `retention.py --ablation`."""

import retention_trials as trials
from retention_figures import Figures, Seeds, points, spread
from retention_table import table
from retention_trials import ABLATION_EPOCHS, PARTS, RECONSTRUCTION_STEPS, TEACHING

WORDS = {
    "gates": "a removed gate becomes its mean",
    "norms": "a new BatchNorm starts from what the old normalisation gave",
    "statistics": "BatchNorm's statistics are measured anew",
    "refit": "layers behind an edit are fitted by least squares",
    "reconstruction_steps": f"blocks are fitted to the source in {RECONSTRUCTION_STEPS} steps",
}
MORE = f"""\
On top of gates, norms and statistics, after {ABLATION_EPOCHS} epochs. *Reconstruction* is {RECONSTRUCTION_STEPS} steps
on training images before them, without labels; *features* are those at the stage ends, at weight {trials.FEATURES:g};
*annealing* turns activations into ReLU over {trials.ANNEAL_EPOCHS:g} of the epochs. (b) has logits after
reconstruction.
"""


def ablations(figures: Figures) -> list[str]:
    """Both tables of every model of which something was measured for them alone; nothing where there is none."""
    only = {*trials.STARTS} - {"bare", "warm", trials.UNFITTED[0]}
    models = sorted({each.model for each in figures.results if each.start in only or each.training in _own_trainings()})
    lines = []
    for model in models:
        lines += [f"### What each part gives: {model}\n", *start_table(figures, model), MORE]
        lines += teaching_table(figures, model)
    return lines


def _own_trainings() -> set[str]:
    in_arms = {training for _, training in trials.ARMS.values()}
    return {training for _, training in TEACHING.values()} - in_arms


def start_table(figures: Figures, model: str) -> list[str]:
    """Untrained: each part alone, and what is left without it of the default and of everything."""
    nothing, default, everything = (_untrained(figures, model, start) for start in ("bare", "warm", "all"))
    rows = []
    for part in PARTS:
        without = f"default_but_{part}" if part != "refit" else None
        starts = f"only_{part}", without, f"all_but_{part}"
        cells = [spread(_untrained(figures, model, start)) if start else "" for start in starts]
        rows.append([f"{part}: {WORDS[part]}", *cells])
    source = points(figures.source(model) or 0.0)
    whole = (
        f"Before any training, {figures.metric(model)}. The source: {source} %. With no part of the warm start, which "
        f"is (a):\n{spread(nothing)}; with those of recipe and schedule, which is (b): {spread(default)}; "
        f"with all of them: {spread(everything)}.\n"
        "A part for which a model has no layers changes nothing, as norms where all of them are BatchNorm already.\n"
    )
    return [whole, *table(["part", "alone", "the default without it", "all without it"], rows)]


def teaching_table(figures: Figures, model: str) -> list[str]:
    """Trained: what a training may add, alone and together."""
    rows = []
    for words, arm in TEACHING.items():
        values = figures.of(model, arm, ABLATION_EPOCHS)
        lost = spread(figures.lost(model, values), "")
        rows.append([words, spread(values), lost, str(len(values))])
    return table(["beside gates, norms and statistics", figures.metric(model), "points lost", "seeds"], rows)


def _untrained(figures: Figures, model: str, start: str) -> Seeds:
    return figures.of(model, (start, trials.NOTHING), 0)
