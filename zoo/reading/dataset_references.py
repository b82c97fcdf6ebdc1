"""Configs of datasets: do the names that they mention exist, and do their fields agree?"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from zoo import layouts
from zoo.errors import Problem, did_you_mean
from zoo.reading import registry
from zoo.reading.document import Document, shown
from zoo.reading.values_at import check_name, text_at, value_at

CROPPED = "classification"  # the task that sees a square of the image, others all of it


def problems(datasets: Iterable[Document]) -> Iterator[Problem]:
    """Everything of this that is wrong, in every document."""
    for dataset in datasets:
        yield from _of_dataset(dataset)


def _of_dataset(dataset: Document) -> Iterator[Problem]:
    yield from check_name(dataset, ("task",), "task", registry.modules("zoo.tasks"))
    yield from _of_layout(dataset)
    generator, root = (text_at(dataset, (name,)) for name in ("generator", "root"))
    if all(dataset.data.get(name) is None for name in ("generator", "root")):
        yield dataset.problem(
            ("root",), "neither generator nor root is given", "add the dataset's folder as 'root: ...'"
        )
    if generator is not None and root is not None:
        yield dataset.problem(("root",), "both generator and root are given", "keep one of them")
    if generator is None and "parameters" in dataset.data:
        yield dataset.problem(("parameters",), "parameters without a generator", "remove them")
    yield from _of_copy(dataset, generator)
    yield from _of_evaluation(dataset)
    known = registry.modules("zoo.datasets")
    yield from check_name(dataset, ("generator",), "generator", known)
    parameters = value_at(dataset, ("parameters",))
    if generator in known and isinstance(parameters, Mapping):
        arguments = registry.keyword_arguments(f"zoo.datasets.{generator}", "generate")
        for name, value in parameters.items():
            if name not in arguments:
                fact = f"{generator} has no parameter '{shown(name)}'"
                yield dataset.problem(("parameters", name), fact, did_you_mean(name, arguments))
            elif wanted := _wanted_number(arguments[name], value):
                yield dataset.problem(("parameters", name), f"should be {wanted}, not {value}")


def _of_copy(dataset: Document, generator: str | None) -> Iterator[Problem]:
    """What only data that somebody copies can be compared with."""
    for field in ("expected", "files_digest"):
        if generator is not None and value_at(dataset, (field,)) is not None:
            yield dataset.problem(
                (field,), "is for data that is copied; a generator makes what it is told", "remove it"
            )


def _of_evaluation(dataset: Document) -> Iterator[Problem]:
    """Does what a model is measured with fit its task?"""
    resize, size = (value_at(dataset, ("evaluation", side)) for side in ("resize", "size"))
    if not (isinstance(resize, int) and isinstance(size, int)):
        return
    task = text_at(dataset, ("task",))
    if task != CROPPED and resize != size and task in registry.modules("zoo.tasks"):
        fact = f"images for {task} are not cropped: their long side is resized to size"
        yield dataset.problem(("evaluation", "resize"), fact, "remove it")
    elif resize < size:
        yield dataset.problem(("evaluation", "resize"), f"is less than the crop's size {size}", f"set {size} or more")


def _of_layout(dataset: Document) -> Iterator[Problem]:
    """Does the layout exist, does it hold the task's labels, and are the classes named once?"""
    name, task = (text_at(dataset, (part,)) for part in ("layout", "task"))
    known = registry.modules("zoo.layouts")
    if name is None or name not in known:
        yield from check_name(dataset, ("layout",), "layout", known)
        return
    layout, tasks = layouts.find(name), registry.modules("zoo.tasks")
    if task in tasks and task != layout.TASK:
        fitting = sorted(each for each in known if task == layouts.find(each).TASK)
        cure = f"for {task}: {', '.join(fitting)}" if fitting else "change layout or task"
        yield dataset.problem(("layout",), f"'{name}' holds labels for {layout.TASK}, not {task}", cure)
    labels, count = value_at(dataset, ("labels",)), value_at(dataset, ("num_classes",))
    if layout.NAMES_CLASSES and labels is not None:
        yield dataset.problem(("labels",), f"'{name}' takes the classes' names from its files", "remove them")
    elif not layout.NAMES_CLASSES and labels is None:
        fact = f"required field is missing: '{name}' does not name its classes"
        yield dataset.problem(("labels",), fact, "add 'labels: [...]', one name for each class, from class 0")
    elif isinstance(labels, list) and isinstance(count, int) and len(labels) != count:
        yield dataset.problem(("labels",), f"{len(labels)} names for {count} classes", "name every class once")
    elif isinstance(labels, list) and (twice := [name for name in labels if labels.count(name) > 1]):
        yield dataset.problem(("labels",), f"two classes are named '{shown(str(twice[0]))}'", "name every class once")


def _wanted_number(annotation: str, value: Any) -> str:
    """What an argument should be, where a number is not that."""
    least = {"Positive": 1, "int": 0}.get(annotation)
    if least is None or isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    fits = isinstance(value, int) and value >= least
    return "" if fits else f"a whole number, {least} or more"
