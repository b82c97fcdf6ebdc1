"""Baseline: the source model with its published weights, or trained here where the profile has none; its accuracy."""

import shutil

import torch
from torch import nn

from zoo import measured_as, sources, tasks
from zoo.atomic import write_json, write_text
from zoo.config import Dataset, Launch
from zoo.data.summary import DatasetSummary, read_summary
from zoo.errors import DatasetError, StepError
from zoo.job import Job, Result
from zoo.measured_as import MeasuredAs
from zoo.origin import Origin
from zoo.recipe import Source
from zoo.schedule import Schedule
from zoo.source_model import save_weights, source_model
from zoo.training import launching
from zoo.training.accelerated import accelerated
from zoo.training.first_weights import calm_classifiers
from zoo.training.fitting import Fitting


def run(job: Job) -> Result:
    """Writes source.safetensors, source.json, metrics.json and curve.jsonl (empty where nothing was trained).

    Raises DatasetError where the published weights know another number of classes than the dataset has.
    """
    data = job.upstream["data"]
    published = job.settings["weights"] == "published"
    describe = _published_origin if published else _scratch_origin
    origin = describe(job, Source.model_validate(job.settings["source"]), read_summary(data))
    schedule = None if published else Schedule.model_validate(job.settings["schedule"])
    torch.manual_seed(0 if schedule is None else schedule.seed)
    model = source_model(origin)
    _require_input(model, origin, job.profile)
    task = tasks.find(origin.task)
    if schedule is None:
        assert origin.weights is not None
        library, size = sources.find(origin.library), origin.preprocessing.size
        model.load_state_dict(library.published(origin.model, origin.weights, image_size=size))
        write_text(job.folder / "curve.jsonl", "")
        training = {"epochs": 0, "seconds": 0.0, "trained_on": f"published weights {origin.weights}, not trained here"}
    else:
        calm_classifiers(model, origin.num_classes)
        fitting = Fitting(
            name=job.model,
            origin=origin,
            schedule=schedule,
            launch=Launch.model_validate(job.settings["launch"]),
            data=data,
            folder=job.folder,
            key=job.key,
        )
        fitted = launching.fit(model, fitting)
        description = f"{job.settings['dataset_name']}, from scratch"
        training = {"epochs": fitted.epochs, "seconds": fitted.seconds, "trained_on": description, **fitted.training}
    save_weights(model, job.folder / "source.safetensors")
    write_json(job.folder / "source.json", origin.model_dump(mode="json"))
    with accelerated(model):
        metrics = task.evaluate(model.eval(), data, origin.preprocessing) | training
    write_json(job.folder / "metrics.json", metrics)
    shutil.rmtree(job.folder / "partial", ignore_errors=True)  # what the training would have resumed from
    names = ("source.safetensors", "source.json", "metrics.json", "curve.jsonl")
    summary = {task.METRIC: metrics[task.METRIC], "epochs": training["epochs"]}
    return Result(tuple(job.folder / name for name in names), summary)


def _require_input(model: nn.Module, origin: Origin, profile: str) -> None:
    """Raises StepError where the model cannot make what a release of it gives of one input, before it is trained."""
    size = origin.preprocessing.size
    try:
        with torch.no_grad():
            tasks.find(origin.task).loadable(model, origin)(torch.zeros(1, 3, size, size))
    except Exception as error:  # a model's own code: too small an input shows as anything
        fact = " ".join(str(error).split())[:200] or type(error).__name__
        raise StepError(
            f"{origin.library}/{origin.model} does not take {size}x{size} images ({fact}); "
            f"set another input_size in configs/profiles/{profile}.yaml"
        ) from error
    model.train()


def _published_origin(job: Job, source: Source, data: DatasetSummary) -> Origin:
    library = sources.find(source.library)
    entry = library.catalogue().get(source.name)
    weights = source.checkpoint or source.weights or (entry.default if entry else None)
    if weights is None:
        raise StepError(
            f"{job.model}: profile {job.profile} uses published weights and the recipe names none; "
            "add source.weights to the recipe"
        )
    labels = library.labels(source.name, weights)
    if len(labels) != data.num_classes:
        raise DatasetError(
            f"{data.name}: {data.num_classes} classes, but weights {weights} of {source.library}/{source.name} "
            f"know {len(labels)}; use the dataset they were trained on, or a profile that trains from scratch"
        )
    own, size = library.preprocessing(source.name, weights), job.settings["input_size"]
    how = measured_as.by_library(own, source.library, weights, size, job.profile)
    return _origin(job, source, weights, labels, how)


def _scratch_origin(job: Job, source: Source, data: DatasetSummary) -> Origin:
    dataset, name = Dataset.model_validate(job.settings["dataset"]), job.settings["dataset_name"]
    geometry = tasks.find(job.settings["task"]).GEOMETRY
    how = measured_as.by_dataset(name, dataset, geometry, job.settings["input_size"], job.profile)
    if how is None or job.settings["schedule"] is None:
        raise StepError(
            f"{job.model}: training from scratch needs an input size and a schedule; give input_size and baseline "
            f"under tasks in configs/profiles/{job.profile}.yaml"
        )
    return _origin(job, source, None, data.labels, how)


def _origin(job: Job, source: Source, weights: str | None, labels: tuple[str, ...], how: MeasuredAs) -> Origin:
    library = sources.find(source.library)
    return Origin(
        library=source.library,
        library_version=library.version(),
        model=source.name,
        options={} if source.anchors is None else {"anchors": source.anchors},
        weights=weights,
        task=job.settings["task"],
        num_classes=len(labels),
        labels=labels,
        preprocessing=how.preprocessing,
        measured_as=how.words,
        licences=library.licences(source.name, weights),
    )
