"""What schedules say: does it agree with itself, and with the tasks that they are named for?"""

from collections.abc import Iterator, Mapping

from zoo.errors import Problem
from zoo.reading import registry
from zoo.reading.document import Document, Location, shown
from zoo.reading.values_at import mapping_at, number_at, text_at, value_at

# Of which tasks an option is; those that every task has are not named.
TASKS: Mapping[str, tuple[str, ...]] = {
    "label_smoothing": ("classification", "segmentation"),
    "crop": ("classification", "segmentation"),
    "base": ("segmentation",),
    "policy": ("classification",),
    "random_erasing": ("classification",),
    "mixup": ("classification",),
    "cutmix": ("classification",),
    "distillation.by_confidence": ("classification",),
}
Documents = Mapping[str, Mapping[str, Document]]  # kind -> name -> document
Use = tuple[Document, Location, str | None]  # where a schedule is named, and for which task


def problems(documents: Documents) -> Iterator[Problem]:
    """What no training could do as it is written, where it is written; what a task has not, where it is named."""
    for schedule in documents["schedules"].values():
        yield from _of_optimizer(schedule)
        yield from _of_decay(schedule)
        yield from _of_sizes(schedule)
        yield from _of_mixing(schedule)
    for document, place, task in _uses(documents):
        name = text_at(document, place)
        if name is not None and name in documents["schedules"]:
            yield from _of_use(document, place, task, name, documents["schedules"][name])


def _of_optimizer(schedule: Document) -> Iterator[Problem]:
    if value_at(schedule, ("optimizer", "nesterov")) is not True:
        return
    if text_at(schedule, ("optimizer", "type")) == "AdamW":
        yield schedule.problem(("optimizer", "nesterov"), "AdamW has no nesterov", "remove it, or set type: SGD")
    elif value_at(schedule, ("optimizer", "momentum")) == 0:
        cure = "set momentum above 0, or remove nesterov"
        yield schedule.problem(("optimizer", "nesterov"), "nesterov without momentum", cure)


def _of_decay(schedule: Document) -> Iterator[Problem]:
    shape = value_at(schedule, ("decay", "shape"))
    if value_at(schedule, ("decay", "power")) is not None and shape != "poly":
        yield schedule.problem(("decay", "power"), "is of poly alone", "remove it, or set shape: poly")
    flat, floor = (number_at(schedule, ("decay", part)) or 0.0 for part in ("flat", "floor"))
    if flat + floor >= 1:
        fact = f"flat and floor are {flat + floor:g} of the training, which leaves no decay"
        yield schedule.problem(("decay",), fact, "let them be less than 1 together")


def _of_sizes(schedule: Document) -> Iterator[Problem]:
    for size in ("crop", "base"):
        if value_at(schedule, (size,)) is not None and value_at(schedule, ("augmentation",)) != "crop_flip":
            cure = "remove it, or set augmentation: crop_flip"
            yield schedule.problem((size,), "is of crop_flip alone", cure)


def _of_mixing(schedule: Document) -> Iterator[Problem]:
    for way in ("mixup", "cutmix"):
        if value_at(schedule, ("batch_size",)) == 1 and _is_on(schedule, way):
            fact = "in batches of one, each image would be mixed with itself"
            yield schedule.problem((way,), fact, "set a larger batch_size, or remove it")


def _uses(documents: Documents) -> Iterator[Use]:
    recipes = documents["recipes"]
    for recipe in recipes.values():
        yield recipe, ("train", "schedule"), text_at(recipe, ("task",))
    for profile in documents["profiles"].values():
        for part in ("baseline", "train"):
            for task in mapping_at(profile, ("tasks",)):
                yield profile, ("tasks", task, part), task
            for model in mapping_at(profile, ("models",)):
                if model in recipes:
                    yield profile, ("models", model, part), text_at(recipes[model], ("task",))


def _of_use(document: Document, place: Location, task: str | None, name: str, schedule: Document) -> Iterator[Problem]:
    unused = [option for option, tasks in TASKS.items() if task not in tasks and _is_on(schedule, option)]
    if unused and task in registry.modules("zoo.tasks"):
        them = "it" if len(unused) == 1 else "them"
        yield document.problem(
            place,
            f"'{shown(name)}' has {' and '.join(unused)}, which {task} does not use",
            f"name another, or remove {them} from {schedule.file}",
        )


def _is_on(schedule: Document, option: str) -> bool:
    return value_at(schedule, tuple(option.split("."))) not in (None, "none", 0, False)
