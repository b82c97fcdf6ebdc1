"""Digit scenes for detection: one to several digits and a box around what is seen of each, as COCO's JSON.

The digits, photographs and clutter of zoo.datasets.digit_scenes; category d + 1 is digit d.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from zoo.config import Positive
from zoo.digits.drawing import LABELS, Style
from zoo.digits.groups import Scene, written


def generate(
    folder: Path,
    *,
    train: Positive = 1500,
    val: Positive = 300,
    size: Positive = 192,
    seed: int = 0,
    smallest: float = 0.2,
    largest: float = 0.5,
    most: Positive = 5,
    overlap: float = 0.1,
    contrast: float = 100.0,
    fragments: int = 1,
    strokes: int = 2,
    noise: float = 4.0,
) -> None:
    """Write ``<split>/NNNNN.png`` and ``annotations/instances_<split>.json``; same arguments, same bytes.

    ``train`` and ``val`` count images; ``most`` and ``overlap`` are those of zoo.digits.groups.written, the others but
    for ``seed`` those of zoo.digits.drawing.Style.
    """
    style = Style(size, smallest, largest, contrast, fragments, strokes, noise)
    annotations = folder / "annotations"
    annotations.mkdir(parents=True)
    for split, count in {"train": train, "val": val}.items():
        scenes = list(written(folder / split, split, count, style, seed=seed, most=most, overlap=overlap))
        content = {
            "info": {"description": f"digit scenes, {split}"},
            "licenses": [],
            "categories": [{"id": digit + 1, "name": label} for digit, label in enumerate(LABELS)],
            "images": [
                {"id": scene.index + 1, "file_name": scene.name, "width": size, "height": size} for scene in scenes
            ],
            "annotations": [{"id": number} | entry for number, entry in enumerate(_entries(scenes), 1)],
        }
        (annotations / f"instances_{split}.json").write_text(json.dumps(content), "utf-8")


def _entries(scenes: Iterable[Scene]) -> Iterator[dict[str, Any]]:
    for scene in scenes:
        for digit in scene.digits:
            left, top, right, bottom = digit.box
            yield {
                "image_id": scene.index + 1,
                "category_id": digit.label + 1,
                "bbox": [left, top, right - left, bottom - top],
                "area": int(digit.seen.sum()),
                "iscrowd": 0,
            }
