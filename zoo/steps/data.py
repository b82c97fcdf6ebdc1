"""Data: make a dataset with its generator, or verify the one that its config points at."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from zoo import datasets
from zoo.atomic import write_json
from zoo.config import Dataset
from zoo.data.judging import summarise
from zoo.data.summary import SUMMARY, expanded_root
from zoo.errors import DatasetError
from zoo.job import Job, Result


def run(job: Job) -> Result:
    """Writes dataset.json and, with a generator, every file of the dataset; raises DatasetError saying all at once.

    The closing line counts the images of each split and, where there are any, what is skipped as corrupt.
    """
    name, dataset = job.settings["name"], Dataset.model_validate(job.settings["dataset"])
    if dataset.generator is None:
        summary = summarise(name, dataset, expanded_root(name, dataset), inside=False)
        files: tuple[Path, ...] = ()  # somebody else's
    else:
        files = _generated(job.folder, dataset.generator, dataset.parameters)
        summary = summarise(name, dataset, job.folder, inside=True)
    write_json(job.folder / SUMMARY, summary.model_dump(mode="json"))
    skipped = {"skipped": len(summary.skipped)} if summary.skipped else {}
    return Result((job.folder / SUMMARY, *files), dict(summary.counts) | skipped)


def _generated(folder: Path, generator: str, parameters: Mapping[str, int | float]) -> tuple[Path, ...]:
    """Into a temporary folder, whose parts then move to their places: what a kill leaves is never taken for whole.

    Returns every file, sorted.
    """
    temporary = folder / "partial"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        datasets.find(generator).generate(temporary, **parameters)
    except (TypeError, ValueError, ArithmeticError) as error:  # a parameter that is unknown or out of range
        raise DatasetError(f"generator {generator}: {error}; correct its dataset's parameters") from error
    parts = sorted(part.name for part in temporary.iterdir())
    for part in parts:
        shutil.rmtree(folder / part, ignore_errors=True)
        (temporary / part).rename(folder / part)
    shutil.rmtree(temporary)
    return tuple(sorted(file for part in parts for file in (folder / part).rglob("*") if file.is_file()))
