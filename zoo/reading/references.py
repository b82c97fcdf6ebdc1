"""Names that recipes and configs mention: does each exist, and do those that belong together agree?

Works on documents rather than on validated models, so that a file with a wrong field still has its names checked.
"""

from collections.abc import Collection, Iterator, Mapping

from zoo import sources
from zoo.errors import MissingLibrary, Problem, UnknownName, did_you_mean
from zoo.reading import dataset_references, registry, schedule_references, teaching_references
from zoo.reading.document import Document, Location, shown
from zoo.reading.values_at import check_name, list_at, mapping_at, text_at, value_at
from zoo.recipe import Source
from zoo.sources import Entry

EXPORT_OPTIONS = {"argmax": "segmentation", "nms": "detection"}  # option -> the task that has it

Documents = Mapping[str, Mapping[str, Document]]  # kind -> name -> document
Known = Mapping[str, Collection[str]]  # kind -> every name, those of unreadable files too


def problems(documents: Documents, known: Known) -> Iterator[Problem]:
    """Every name that does not exist, in every document."""
    profiles = documents["profiles"]
    for name, recipe in documents["recipes"].items():
        yield from _of_recipe(name, recipe, known, profiles)
    yield from dataset_references.problems(documents["datasets"].values())
    yield from schedule_references.problems(documents)
    yield from teaching_references.problems(documents)
    for profile in profiles.values():
        yield from _of_profile(profile, known, documents["datasets"])


def _of_recipe(name: str, recipe: Document, known: Known, profiles: Mapping[str, Document]) -> Iterator[Problem]:
    yield from _of_source(recipe)
    yield from check_name(recipe, ("task",), "task", registry.modules("zoo.tasks"))
    yield from check_name(recipe, ("target",), "target", known["targets"], "configs/targets")
    yield from check_name(recipe, ("train", "schedule"), "schedule", known["schedules"], "configs/schedules")
    place = _place_of_rules(recipe)
    for index, _ in enumerate(list_at(recipe, place)):
        if text_at(recipe, (*place, index)) in ("auto", "default", "none"):
            yield recipe.problem(
                (*place, index), "stands for rules and is none", "write it without brackets, or name rules"
            )
        else:
            yield from check_name(recipe, (*place, index), "rule", registry.rules())
    yield from _lite_or_not(name, recipe)
    yield from _of_export(recipe)
    yield from _of_acceptance(recipe, known)
    for profile, document in profiles.items():
        yield from _of_use(recipe, profile, document)


def _of_export(recipe: Document) -> Iterator[Problem]:
    """Options that only one task has, or that do not go together."""
    task = text_at(recipe, ("task",))
    for option, owner in EXPORT_OPTIONS.items():
        if value_at(recipe, ("export", option)) is True and task != owner:
            yield recipe.problem(("export", option), f"is for {owner}, not {shown(task or '')}", "remove it")
    if all(value_at(recipe, ("export", option)) is True for option in ("nms", "dynamic_batch")):
        fact = "suppression in the graph is for one image, not for a dynamic batch"
        yield recipe.problem(("export", "nms"), fact, "remove it or dynamic_batch")


def _of_acceptance(recipe: Document, known: Known) -> Iterator[Problem]:
    """Bounds of profiles that there are not would hold nothing."""
    for profile in mapping_at(recipe, ("accept", "at_least")):
        if profile not in known["profiles"]:
            cure = did_you_mean(profile, known["profiles"])
            yield recipe.problem(("accept", "at_least", profile), f"unknown profile '{shown(profile)}'", cure)


def _of_source(recipe: Document) -> Iterator[Problem]:
    """Library, folder, model, weights, task: the first that is wrong makes the rest meaningless."""
    library, weights = (text_at(recipe, ("source", part)) for part in ("library", "weights"))
    field, model = _model_of(recipe)
    wrong = [*_one_name(recipe), *_fields_of(recipe, library)]
    yield from wrong
    if value_at(recipe, ("source", "checkpoint")) is not None and weights is not None:
        yield recipe.problem(("source", "checkpoint"), "stands beside weights", "remove one of the two")
    if library is None:
        return
    folder = recipe.file.split("/")[-2]
    if folder != library:
        cure = f"move the file to recipes/{shown(library)}/"
        yield recipe.problem(("source", "library"), f"'{shown(library)}' in folder '{folder}'", cure)
    known = registry.modules("zoo.sources")
    if library not in known:
        yield from check_name(recipe, ("source", "library"), "source library", known)
        return
    try:
        models = sources.find(library).catalogue()
    except MissingLibrary:
        return  # other recipes can be built all the same; this one's first step says what to install
    if model is None or wrong:
        return
    if model not in models:
        yield from check_name(recipe, ("source", field), f"{library} {field}", models)
        return
    yield from _of_model(recipe, f"{library}/{model}", models[model], weights)


def _one_name(recipe: Document) -> Iterator[Problem]:
    """A source is named by one of two fields."""
    given = {field for field in ("model", "config") if value_at(recipe, ("source", field)) is not None}
    if not given and mapping_at(recipe, ("source",)):
        yield recipe.problem(("source", "model"), "required field is missing", "add 'model: ...'")
    if len(given) == 2:
        yield recipe.problem(("source", "config"), "stands beside model", "remove one of the two")


def _fields_of(recipe: Document, library: str | None) -> Iterator[Problem]:
    """Fields that only other libraries have."""
    if library not in registry.modules("zoo.sources"):
        return
    allowed = sources.find(library).FIELDS
    for field in Source.model_fields:
        if field not in ("library", *allowed) and value_at(recipe, ("source", field)) is not None:
            cure = f"write '{allowed[0]}: ...'" if field in ("model", "config") else "remove the field"
            yield recipe.problem(("source", field), f"a source of {library} has no such field", cure)


def _model_of(recipe: Document) -> tuple[str, str | None]:
    """The field that names the model, and the name."""
    field = "model" if value_at(recipe, ("source", "config")) is None else "config"
    return field, text_at(recipe, ("source", field))


def _of_model(recipe: Document, model: str, entry: Entry, weights: str | None) -> Iterator[Problem]:
    if weights is not None and weights not in entry.weights:
        cure = did_you_mean(weights, entry.weights) or "remove the field"
        yield recipe.problem(("source", "weights"), f"{model} has no weights '{shown(weights)}'", cure)
    task = text_at(recipe, ("task",))
    if task is not None and task in registry.modules("zoo.tasks") and task != entry.task:
        yield recipe.problem(("task",), f"{model} is a model for {entry.task}, not {task}", "change task or model")


def _place_of_rules(recipe: Document) -> Location:
    """A recipe may write the rules alone."""
    return ("surgery", "rules") if isinstance(value_at(recipe, ("surgery",)), Mapping) else ("surgery",)


def _lite_or_not(name: str, recipe: Document) -> Iterator[Problem]:
    alone = value_at(recipe, ("surgery",)) == "none"
    expects_edits = not alone and value_at(recipe, ("surgery", "expect")) != "no_edits"
    if expects_edits and not name.endswith("_lite"):
        fact = f"expects edits, but the name '{shown(name)}' does not end in '_lite'"
        yield recipe.problem(("surgery", "expect"), fact, f"rename it to {shown(name)}_lite or set expect: no_edits")
    elif not expects_edits and name.endswith("_lite"):
        fact = f"expects no edits, so it is not lite, but is called '{shown(name)}'"
        yield recipe.problem(("surgery", "expect"), fact, "rename the file without '_lite', or expect edits")
    if not expects_edits and list_at(recipe, _place_of_rules(recipe)):
        yield recipe.problem(("surgery", "rules"), "rules are named where no edits are expected", "remove them")
    if expects_edits and value_at(recipe, ("surgery", "rules")) == "none":
        yield recipe.problem(
            ("surgery", "rules"), "no rules are applied, but edits are expected", "set expect: no_edits"
        )


def _of_use(recipe: Document, profile: str, document: Document) -> Iterator[Problem]:
    """What a profile needs of each recipe that it builds."""
    task, tasks = text_at(recipe, ("task",)), value_at(document, ("tasks",))
    if task in registry.modules("zoo.tasks") and isinstance(tasks, Mapping) and task not in tasks:
        yield recipe.problem(
            ("task",), f"profile '{shown(profile)}' has no task '{task}'", f"add it to {document.file}"
        )
    source = value_at(recipe, ("source",))
    has_weights = not isinstance(source, Mapping) or any(source.get(field) for field in ("weights", "checkpoint"))
    if value_at(document, ("weights",)) == "published" and not has_weights:
        entry = _entry(recipe)
        if entry is not None and entry.default is None:
            fact = f"required field is missing: profile '{shown(profile)}' uses published weights"
            newest = entry.weights[-1] if entry.weights else "..."
            yield recipe.problem(("source", "weights"), fact, f"add 'weights: {newest}'")


def _entry(recipe: Document) -> Entry | None:
    """What the library says of the model; None where it is not installed, or is asked for what it does not have."""
    library, (_, model) = text_at(recipe, ("source", "library")), _model_of(recipe)
    try:
        return sources.find(library or "").catalogue().get(model or "")
    except (UnknownName, MissingLibrary):
        return None


def _of_profile(profile: Document, known: Known, datasets: Mapping[str, Document]) -> Iterator[Problem]:
    for index, _ in enumerate(list_at(profile, ("starter",))):
        yield from check_name(profile, ("starter", index), "recipe", known["recipes"], "recipes")
    for step in mapping_at(profile, ("timeout_minutes",)):
        if step not in (steps := {"default", *registry.modules("zoo.steps")}):
            yield profile.problem(("timeout_minutes", step), f"unknown step '{shown(step)}'", did_you_mean(step, steps))
    for task in mapping_at(profile, ("tasks",)):
        yield from _of_task(profile, task, known, datasets)
        yield from _of_baseline(profile, task, datasets)
    for model in mapping_at(profile, ("models",)):
        yield from _of_own_schedules(profile, model, known)


def _of_own_schedules(profile: Document, model: str, known: Known) -> Iterator[Problem]:
    """Schedules that a profile has for one model."""
    if model not in known["recipes"]:
        yield profile.problem(
            ("models", model), f"unknown recipe '{shown(model)}'", did_you_mean(model, known["recipes"])
        )
    for part in ("baseline", "train"):
        yield from check_name(profile, ("models", model, part), "schedule", known["schedules"], "configs/schedules")
    if value_at(profile, ("weights",)) == "published" and value_at(profile, ("models", model, "baseline")) is not None:
        fact = "a schedule for sources that come with published weights"
        yield profile.problem(("models", model, "baseline"), fact, "remove it, or set weights: scratch")


def _of_task(profile: Document, task: str, known: Known, datasets: Mapping[str, Document]) -> Iterator[Problem]:
    if task not in (tasks := registry.modules("zoo.tasks")):
        yield profile.problem(("tasks", task), f"unknown task '{shown(task)}'", did_you_mean(task, tasks))
    for part, kind in (("dataset", "datasets"), ("baseline", "schedules"), ("train", "schedules")):
        yield from check_name(profile, ("tasks", task, part), kind.removesuffix("s"), known[kind], f"configs/{kind}")
    dataset = text_at(profile, ("tasks", task, "dataset"))
    holds = text_at(datasets[dataset], ("task",)) if dataset and dataset in datasets else None
    if holds is not None and holds != task:
        fact = f"'{shown(dataset)}' is a dataset for {shown(holds)}, not {shown(task)}"
        yield profile.problem(("tasks", task, "dataset"), fact, "name another")


def _of_baseline(profile: Document, task: str, datasets: Mapping[str, Document]) -> Iterator[Problem]:
    """Sources are either trained or come with published weights."""
    weights, baseline = value_at(profile, ("weights",)), value_at(profile, ("tasks", task, "baseline"))
    if weights == "scratch" and baseline is None:
        fact = "required field is missing: sources are trained from scratch"
        yield profile.problem(("tasks", task, "baseline"), fact, "add the schedule that trains them")
    dataset = datasets.get(text_at(profile, ("tasks", task, "dataset")) or "")
    stated = dataset is not None and value_at(dataset, ("evaluation", "size")) is not None
    if weights == "scratch" and not stated and value_at(profile, ("tasks", task, "input_size")) is None:
        fact = "required field is missing: sources are trained from scratch"
        yield profile.problem(("tasks", task, "input_size"), fact, "add the pixels of a side, such as 'input_size: 64'")
    if weights == "published" and baseline is not None:
        fact = "a schedule for sources that come with published weights"
        yield profile.problem(("tasks", task, "baseline"), fact, "remove it, or set weights: scratch")
