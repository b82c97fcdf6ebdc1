"""ImageNet-1k as it is downloaded: ``train/<WNID>/<image>``; ``val/`` in such folders too, or flat beside the devkit.

The flat one is what ILSVRC2012_img_val.tar holds: ILSVRC2012_val_00000001.JPEG and so on. The devkit's files are in
``ILSVRC2012_devkit_t12/data/``, as its archive makes it, or in ``data/``; see zoo.data.imagenet_devkit.
"""

from pathlib import Path

from zoo.config import Dataset
from zoo.data import image_files, imagenet_devkit
from zoo.data.contents import Contents, Sample
from zoo.data.summary import DatasetSummary, few
from zoo.errors import DatasetError
from zoo.layouts import imagefolder
from zoo.layouts.imagefolder import Images

TASK = "classification"
NAMES_CLASSES = True  # by the folders in train/: WNIDs, in whose order published weights know the classes
INDEXES = tuple(f"{folder}/{file}" for folder in imagenet_devkit.FOLDERS for file in imagenet_devkit.FILES)


def contents(dataset: Dataset, root: Path) -> Contents:
    """What is under ``root``; no image is opened."""
    if not _is_flat(root):
        return imagefolder.contents(dataset, root)
    problems = [] if (root / "train").is_dir() else ["train/ is missing"]
    labels = [] if problems else imagefolder.classes(root / "train")
    problems += [] if problems else imagefolder.of_folders("train", labels, dataset)
    val, truth_problems, indexes = _flat(root, tuple(labels), dataset.num_classes)
    train = {"train": imagefolder.labelled(root / "train", labels)} if (root / "train").is_dir() else {}
    return Contents(
        "train/<WNID>/<image>, val/ILSVRC2012_val_<number>.JPEG and ILSVRC2012_devkit_t12/",
        tuple(labels),
        train | {"val": val},
        (*problems, *imagefolder.imageless(train), *truth_problems),
        indexes=indexes,
    )


def images(folder: Path, summary: DatasetSummary, split: str) -> Images:
    """The images of a split of the dataset that ``summary``, read from ``folder``, describes."""
    root = folder / summary.root
    if split != "val" or not _is_flat(root):
        return imagefolder.images(folder, summary, split)
    val, problems, _ = _flat(root, summary.labels, summary.num_classes)
    if problems:
        raise DatasetError(f"{root / split}: {', '.join(problems)}; build the data step again")
    return imagefolder.kept(val, root, summary, split)


def _is_flat(root: Path) -> bool:
    val = root / "val"
    return val.is_dir() and not imagefolder.classes(val) and bool(image_files.found(val))


def _flat(root: Path, labels: tuple[str, ...], num_classes: int) -> tuple[list[Sample], list[str], tuple[Path, ...]]:
    """The images of a flat val/ that have a class, what is wrong with the others, and the files that say so."""
    try:
        truth = imagenet_devkit.ground_truth(root, num_classes)
    except DatasetError as error:
        return [], [str(error)], ()
    index = {label: place for place, label in enumerate(labels)}
    problems, samples, numbers = [], [], set()
    foreign = []
    for file in image_files.found(root / "val"):
        number = imagenet_devkit.number(file.name)
        if number is None or number > len(truth.classes):
            foreign.append(f"val/{file.name}")
            continue
        numbers.add(number)
        samples.append(Sample(file, label=index.get(truth.classes[number - 1])))
    name = truth.files[0].relative_to(root).as_posix()
    if foreign:
        problems.append(f"{few(foreign, 'images')} without a class in {name}")
    if absent := [imagenet_devkit.file_name(n) for n in range(1, len(truth.classes) + 1) if n not in numbers]:
        problems.append(f"val/ lacks {few(absent, 'images')} of the {len(truth.classes)} in {name}")
    if labels and (unknown := sorted({*truth.classes} - {*labels})):
        problems.append(f"train/ lacks {few(unknown, 'classes')} of {name}")
    return samples, problems, truth.files
