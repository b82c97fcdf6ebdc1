"""Data: make a dataset with its generator, or verify the one that its config points at."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from zoo import datasets, imagefolder
from zoo.atomic import write_json
from zoo.config import Dataset
from zoo.errors import DatasetError
from zoo.job import Job, Result


def run(job: Job) -> Result:
    """Writes dataset.json and, with a generator, every image; raises DatasetError saying all that is missing."""
    name, dataset = job.settings["name"], Dataset.model_validate(job.settings["dataset"])
    if dataset.generator is None:
        summary = imagefolder.summarise(name, dataset, imagefolder.expanded_root(name, dataset), inside=False)
        images: tuple[Path, ...] = ()  # somebody else's
    else:
        _generate(job.folder, dataset.generator, dataset.parameters)
        summary = imagefolder.summarise(name, dataset, job.folder, inside=True)
        images = tuple(
            file for split in imagefolder.SPLITS for file in imagefolder.images(job.folder, summary, split).files
        )
    write_json(job.folder / imagefolder.SUMMARY, summary.model_dump(mode="json"))
    return Result((job.folder / imagefolder.SUMMARY, *images), dict(summary.counts))


def _generate(folder: Path, generator: str, parameters: Mapping[str, int | float]) -> None:
    """Into a temporary folder, whose parts then move to their places: what a kill leaves is never taken for whole."""
    temporary = folder / "partial"
    shutil.rmtree(temporary, ignore_errors=True)
    for split in imagefolder.SPLITS:
        shutil.rmtree(folder / split, ignore_errors=True)
    try:
        datasets.find(generator).generate(temporary, **parameters)
    except (TypeError, ValueError) as error:  # a parameter that is unknown or out of range
        raise DatasetError(f"generator {generator}: {error}; correct its dataset's parameters") from error
    for split in imagefolder.SPLITS:
        (temporary / split).rename(folder / split)
    shutil.rmtree(temporary)
