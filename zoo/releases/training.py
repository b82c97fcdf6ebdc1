"""How a release's models came by their weights, in words: trained on what, for how long, started from what."""

from collections.abc import Mapping

from pydantic import JsonValue

from zoo.durations import duration
from zoo.linting.wording import counted
from zoo.releases.manifest import Evaluation

MANY = 8  # items of a list, of which the card says the number alone


def trained(evaluation: Evaluation) -> str:
    """On what and how, such as ``digits, from scratch; 4 epochs in 3.1 min by schedule short (learning rate 0.03)``."""
    on = evaluation.trained_on.strip() or "not trained"
    time = f" in {duration(evaluation.seconds)}" if evaluation.seconds else ""
    if not evaluation.epochs:
        return on + time
    schedule = f" by schedule {evaluation.schedule}" if evaluation.schedule else ""
    settings = stated(evaluation.training)
    return f"{on}; {counted(evaluation.epochs, 'epoch')}{time}{schedule}" + (f" ({settings})" if settings else "")


def stated(settings: Mapping[str, JsonValue]) -> str:
    """Each with its value, of what is on the name alone; what is off, empty, or 1 part or device of 1, is left out."""
    return ", ".join(filter(None, (_one(name.replace("_", " "), value) for name, value in settings.items())))


def _one(name: str, value: JsonValue) -> str:
    if value is True:
        return name
    if not value or (isinstance(value, int) and value == 1):
        return ""
    if isinstance(value, dict):
        inside = stated(value)
        return f"{name} ({inside})" if inside else ""
    if isinstance(value, list):
        inside = ", ".join(map(str, value)) if len(value) <= MANY else str(len(value))
        return f"{name} ({inside})"
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"


def started(warm_start: Mapping[str, JsonValue]) -> str:
    """The parts of the warm start that were on, then those that were off."""
    on = {name: value for name, value in warm_start.items() if value}
    off = ", ".join(name.replace("_", " ") for name in warm_start if name not in on)
    return (stated(on) or "nothing") + (f"; without {off}" if off else "")
