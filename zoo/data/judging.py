"""Whether what a layout found is what its config says: the summary that the data step writes, or all that is wrong."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo import layouts
from zoo.config import Dataset
from zoo.data.contents import Contents, Sample, miscounted
from zoo.data.looking import look
from zoo.data.summary import DatasetSummary, described, few
from zoo.errors import DatasetError


def summarise(name: str, dataset: Dataset, root: Path, *, inside: bool) -> DatasetSummary:
    """What is under ``root``, where it is what the config says; ``inside``: generated, described from its own folder.

    Headers are looked at where there is something for them to agree with. With ``corrupt: skip`` every image and label
    map is decoded, and what is wrong in any way is left out. Raises DatasetError saying at once all that is wrong, or
    which file cannot be read.
    """
    try:
        contents = layouts.find(dataset.layout).contents(dataset, root)
        return _judged(name, dataset, root, contents, inside=inside)
    except OSError as error:
        raise DatasetError(f"{error.filename or root}: {error.strerror}; make it readable") from error


def _judged(name: str, dataset: Dataset, root: Path, contents: Contents, *, inside: bool) -> DatasetSummary:
    decode = dataset.corrupt == "skip"
    faults: dict[str, str] = {}  # of what would be skipped, by its place
    kept: dict[str, list[Sample]] = {}
    for split, samples in contents.samples.items():
        kept[split] = []
        for sample in samples:
            if fault := look(sample, root, dataset.num_classes, decode=decode).fault:
                faults[sample.image.relative_to(root).as_posix()] = fault
            else:
                kept[split].append(sample)
    miscounts = miscounted(contents, dataset)
    problems = [*contents.problems, *miscounts, *unseen(contents.labels, kept)]
    wrong = [f"{where}: {fact}" for where, fact in contents.entries.items()] + list(faults.values())
    if wrong and not decode:
        problems.append(f"{few(wrong, 'such')} (corrupt: skip in its config leaves them out)")
    for split, whole in kept.items():
        if not whole and (contents.samples[split] or contents.entries):
            problems.append(f"no image of {split} is whole")
    if problems:
        cure = f"copy what is missing, or correct expected in configs/datasets/{name}.yaml; " if miscounts else ""
        raise DatasetError(
            f"{root}: not a whole {name}: {', '.join(problems)}; {cure}"
            f"expected {root}/{contents.layout}, see the homepage in its config"
        )
    return described(
        name,
        dataset,
        root,
        contents.labels,
        {split: len(whole) for split, whole in kept.items()},
        [file for samples in kept.values() for each in samples for file in (each.image, each.label_map) if file],
        inside=inside,
        indexes=contents.indexes,
        skipped=(*contents.entries, *faults),
    )


def unseen(labels: Sequence[str], samples: Mapping[str, Sequence[Sample]]) -> list[str]:
    """Classes of which a split has no image, where an image has one class."""
    found = []
    for split, each in samples.items():
        seen = {sample.label for sample in each} - {None}
        if seen and (missing := [label for index, label in enumerate(labels) if index not in seen]):
            found.append(f"{split}/ has no image of {few(missing, 'classes')}")
    return found
