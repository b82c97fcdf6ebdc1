"""Label PNGs: ``images/<split>/<name>.jpg`` or ``.png``, ``labels/<split>/<name>.png``; 255 is ignored.

A split's folders may carry COCO's year, as in ``train2017``.
"""

from pathlib import Path

from zoo.config import Dataset
from zoo.data import image_files, label_maps
from zoo.data.contents import Contents
from zoo.data.label_maps import LabelledImages
from zoo.data.summary import SPLITS, DatasetSummary, spellings

TASK = "segmentation"
NAMES_CLASSES = False
INDEXES = ()


def contents(dataset: Dataset, root: Path) -> Contents:
    """What is under ``root``; no image is opened."""
    pairs = {split: _pairs(root, split) for split in SPLITS}
    problems = [f"images/{split}/ is missing or has no image" for split in SPLITS if not pairs[split]]
    layout = "images/<train|val>/<name>.jpg and labels/<train|val>/<name>.png"
    return label_maps.contents(dataset, pairs, problems, layout)


def images(folder: Path, summary: DatasetSummary, split: str) -> LabelledImages:
    """The images of a split, sorted, and their label maps."""
    root = folder / summary.root
    return label_maps.kept(_pairs(root, split), root, summary, split)


def _pairs(root: Path, split: str) -> list[tuple[Path, Path]]:
    for spelling in spellings(split):
        if found := image_files.found(root / "images" / spelling):
            return [(image, root / "labels" / spelling / f"{image.stem}.png") for image in found]
    return []
