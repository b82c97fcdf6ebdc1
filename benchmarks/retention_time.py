"""How long trials of retention.py take, from those that are done and a guess for what nobody has run."""

from collections import Counter
from collections.abc import Iterable, Sequence

from retention_measure import Place
from retention_trials import RECONSTRUCTION_STEPS, SOURCE, Told, Trial

# Seconds of an epoch of the lite model with its teacher, one thread, as many trials as cores.
EPOCH = {
    "mobilenet_v3_small": 17,
    "mobilenet_v3_large": 41,
    "efficientnet_b0": 88,
    "convnext_atto": 44,
    "yolov8_n": 63,
}
OTHER = 60  # of a model that is not among them
# Of such an epoch: the source learns without a teacher; what surgery and its measurement take, and the ablation's steps
# of reconstruction.
UNTAUGHT, SURGERY, RECONSTRUCTION = 0.8, 0.6, 1.2


def seconds(place: Place, trials: Iterable[Trial]) -> dict[Trial, float]:
    """Of each trial: the guess, scaled by how the model's trials that are done took in proportion to theirs."""
    guessed, spent = Counter[str](), Counter[str]()
    for trial, result in place.results().items():
        guessed[trial.model] += _guess(place, trial)
        spent[trial.model] += result["seconds"]
    pace = {model: spent[model] / guess for model, guess in guessed.items()}
    return {trial: _guess(place, trial) * pace.get(trial.model, 1.0) for trial in trials}


def left(place: Place, missing: Sequence[Trial], jobs: int) -> float:
    """Seconds until all of them are done, side by side."""
    return sum(seconds(place, missing).values()) / max(1, min(jobs, len(missing)))


def _guess(place: Place, trial: Trial) -> float:
    epoch = EPOCH.get(trial.model, OTHER)
    settings = Told(place.library, trial).settings
    if trial.start == SOURCE:
        return UNTAUGHT * epoch * float(settings["schedule"]["epochs"])
    if trial.epochs:
        return epoch * trial.epochs * (1.0 if settings["teacher"] else UNTAUGHT)
    steps: int = settings["surgery"]["warm_start"]["reconstruction_steps"]
    return epoch * (SURGERY + RECONSTRUCTION * steps / RECONSTRUCTION_STEPS)
