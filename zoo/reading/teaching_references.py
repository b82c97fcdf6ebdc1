"""What schedules say of the source's part in a training: can it be done, and is it done where the schedule is named?"""

from collections.abc import Iterator, Mapping

from zoo.errors import Problem
from zoo.reading.document import Document, Location, shown
from zoo.reading.values_at import mapping_at, number_at, text_at, value_at

Documents = Mapping[str, Mapping[str, Document]]  # kind -> name -> document
REFUSED = {  # of what a compiled model cannot do, and why
    ("anneal_epochs",): "a compiled model does not see how far its activations have turned",
    ("distillation", "features"): "of a compiled model nobody sees what its stages end with",
}
# What is done to what surgery replaced, by the field that asks for it.
OF_LITE_MODELS = {"anneal_epochs": "anneal", "reconstruction_steps": "reconstruct"}


def problems(documents: Documents) -> Iterator[Problem]:
    """What no training could do as it is written, and what a source or a shorter training could not."""
    schedules = documents["schedules"]
    for schedule in schedules.values():
        yield from _of_schedule(schedule)
    for profile in documents["profiles"].values():
        yield from _of_baselines(profile, schedules)
    for recipe in documents["recipes"].values():
        yield from _of_recipe(recipe, documents)


def _of_schedule(schedule: Document) -> Iterator[Problem]:
    epochs, annealed = number_at(schedule, ("epochs",)), number_at(schedule, ("anneal_epochs",))
    if epochs and annealed and annealed > epochs:
        fact = f"{annealed:g} epochs are more than the schedule's {epochs:g}: the activations would not become ReLU"
        yield schedule.problem(("anneal_epochs",), fact, "lower it, or raise epochs")
    if number_at(schedule, ("distillation", "weight")) == 0 and not number_at(schedule, ("distillation", "features")):
        cure = "give features a weight, or write 'distillation: null'"
        yield schedule.problem(("distillation", "weight"), "without features nothing is taught", cure)
    for place, reason in REFUSED.items():
        if value_at(schedule, ("compile",)) is True and number_at(schedule, place):
            yield schedule.problem(place, f"stands beside compile: {reason}", "remove one of the two")


def _of_baselines(profile: Document, schedules: Mapping[str, Document]) -> Iterator[Problem]:
    """Schedules that train sources, where surgery has replaced nothing."""
    for part in ("tasks", "models"):
        for name in mapping_at(profile, (part,)):
            place = (part, name, "baseline")
            schedule = schedules.get(text_at(profile, place) or "")
            for field, verb in OF_LITE_MODELS.items():
                if schedule is not None and number_at(schedule, (field,)):
                    fact = f"'{shown(text_at(profile, place) or '')}' has {field}, and a source has nothing to {verb}"
                    yield profile.problem(place, fact, f"name another, or remove it from {schedule.file}")


def _of_recipe(recipe: Document, documents: Documents) -> Iterator[Problem]:
    """A recipe that trains for fewer epochs than its schedule anneals, in whichever profile."""
    epochs = number_at(recipe, ("train", "epochs"))
    for name in sorted(_schedules_of(recipe, documents)) if epochs else ():
        schedule = documents["schedules"].get(name)
        annealed = number_at(schedule, ("anneal_epochs",)) if schedule is not None else None
        if annealed and epochs and annealed > epochs:
            fact = f"{epochs:g} epochs are fewer than the {annealed:g} that schedule '{shown(name)}' anneals for"
            yield recipe.problem(("train", "epochs"), fact, "raise it, or name another schedule")


def _schedules_of(recipe: Document, documents: Documents) -> set[str]:
    """Names of the schedules that fine-tune the recipe's model, over all profiles."""
    if own := text_at(recipe, ("train", "schedule")):
        return {own}
    task, found = text_at(recipe, ("task",)) or "", set()
    for profile in documents["profiles"].values():
        places: list[Location] = [("models", _name(recipe), "train"), ("tasks", task, "train")]
        found.add(next((name for place in places if (name := text_at(profile, place))), ""))
    return found - {""}


def _name(recipe: Document) -> str:
    return recipe.file.rpartition("/")[2].removesuffix(".yaml")
