"""COCO's objects as label maps of VOC's classes: what is drawn, which images are kept, what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image
from small_datasets import picture

from zoo.cli import main
from zoo.config import Dataset
from zoo.data import coco_voc
from zoo.data.coco_voc import CLASSES, Outlined, label_map
from zoo.data.judging import summarise
from zoo.layouts import label_pngs

CONFIG = Path(__file__).parents[1] / "configs" / "datasets" / "coco_voc.yaml"
SIZE = (60, 40)
CAT, PERSON, TV = (CLASSES.index(name) + 1 for name in ("cat", "person", "tv"))


def box(left: int, top: int, right: int, bottom: int) -> list[int]:
    return [left, top, right, top, right, bottom, left, bottom]


def annotation(image: int, category: int, polygon: list[Any], area: float, **changes: Any) -> dict[str, Any]:
    return {
        "id": area, "image_id": image, "category_id": category, "area": area, "iscrowd": 0, "segmentation": [polygon],
    } | changes  # fmt: skip


def content() -> dict[str, Any]:
    """Three images: a large cat under a tv; a small cat and a crowd; a zebra, which VOC does not have."""
    return {
        "categories": [
            *({"id": 100 - place, "name": name} for place, name in enumerate(CLASSES)),
            {"id": 7, "name": "zebra"},
        ],
        "images": [
            {"id": number, "file_name": f"{number}.jpg", "width": SIZE[0], "height": SIZE[1]} for number in (1, 2, 3)
        ],
        "annotations": [
            annotation(1, 101 - CAT, box(10, 10, 50, 38), 1120),
            annotation(1, 101 - TV, box(40, 0, 60, 20), 400),
            annotation(2, 101 - CAT, box(0, 0, 20, 20), 400),
            annotation(2, 101 - PERSON, box(0, 0, 60, 40), 2400, iscrowd=1, segmentation={"counts": [2400]}),
            annotation(3, 7, box(0, 0, 60, 40), 2400),
        ],
    }


def coco(root: Path, **changes: Any) -> Path:
    (root / "annotations").mkdir(parents=True)
    for split in coco_voc.SPLITS:
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content() | changes))
        for number in (1, 2, 3):
            picture(root / split / f"{number}.jpg", size=SIZE)
    return root


def zoo(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["data", "coco-voc", *map(str, arguments)], catch_exceptions=False)


def test_classes_are_in_the_order_of_the_config() -> None:
    labels = yaml.safe_load(CONFIG.read_text())["labels"]
    same = {"airplane": "aeroplane", "dining table": "diningtable", "motorcycle": "motorbike"}
    same |= {"potted plant": "pottedplant", "couch": "sofa", "tv": "tvmonitor"}
    assert ["background", *(same.get(name, name) for name in CLASSES)] == labels


def test_objects_are_drawn_by_their_outlines_and_overlaps_ignored() -> None:
    objects = ((CAT, [box(10, 10, 50, 38)]), (TV, [box(40, 0, 60, 20)]))
    drawn = label_map(Outlined("1.jpg", SIZE, objects))
    assert drawn.shape == (40, 60)
    expected = np.zeros((40, 60), np.uint8)
    expected[10:38, 10:50] = CAT
    expected[0:20, 40:60] = TV
    expected[10:20, 40:50] = 255
    assert np.array_equal(drawn, expected)


@pytest.mark.parametrize(
    ("polygon", "pixels"),
    [
        ([0, 0, 4, 0, 0, 4], ["###.", "##..", "#...", "...."]),  # a centre on an edge counts as right of it
        ([0, 0, 4, 4, 4, 0, 0, 4], ["...#", "#.##", "#.##", "...#"]),  # crosses itself
        ([-9, -9, 9, -9, 9, 9, -9, 9], ["####"] * 4),
        ([9, 9, 12, 9, 12, 12], ["...."] * 4),
        ([1.4, 1.4, 2.6, 1.4, 2.6, 2.6, 1.4, 2.6], ["....", ".##.", ".##.", "...."]),
        ([1.6, 1.6, 2.4, 1.6, 2.4, 2.4, 1.6, 2.4], ["...."] * 4),
    ],
)
def test_a_pixel_is_inside_where_its_centre_is(polygon: list[float], pixels: list[str]) -> None:
    drawn = label_map(Outlined("1.jpg", (4, 4), ((CAT, [polygon]),)))
    assert ["".join(".#"[value // CAT] for value in row) for row in drawn] == pixels


def test_an_object_in_parts_is_one() -> None:
    drawn = label_map(Outlined("1.jpg", (4, 4), ((CAT, [box(0, 0, 3, 2), box(1, 1, 4, 4)]),)))
    assert set(np.unique(drawn)) == {0, CAT}
    assert (drawn == CAT).sum() == 6 + 9 - 2


def test_what_is_made_is_the_dataset_of_the_config(tmp_path: Path) -> None:
    result = zoo(coco(tmp_path / "coco"), tmp_path / "made")
    assert result.stdout == f"{tmp_path}/made: train2017 1 images, val2017 3 images\n"
    settings = yaml.safe_load(CONFIG.read_text()) | {"expected": {"val": 3}, "corrupt": "skip"}
    summary = summarise("coco_voc", Dataset.model_validate(settings), tmp_path / "made", inside=False)
    assert (summary.counts, summary.skipped) == ({"train": 1, "val": 3}, ())
    maps = [set(np.unique(Image.open(file))) for file in label_pngs.images(tmp_path, _at(summary), "val").labels]
    assert maps == [{0, CAT, TV, 255}, {0, CAT}, {0}]


def _at(summary: Any) -> Any:
    return summary.model_copy(update={"root": "made"})


def test_a_folder_that_is_there_is_left_alone_and_half_of_one_made_again(tmp_path: Path) -> None:
    root = coco(tmp_path / "coco")
    (tmp_path / "made.partial" / "labels").mkdir(parents=True)
    assert zoo(root, tmp_path / "made").exit_code == 0
    assert not (tmp_path / "made.partial").exists()
    again = zoo(root, tmp_path / "made")
    assert (again.exit_code, again.stdout) == (2, "")
    assert again.stderr == f"zoo: {tmp_path}/made: is there already; remove it, or name another\n"
    nowhere = zoo(root, tmp_path / "made" / "images" / "train2017" / "1.jpg" / "x")
    assert nowhere.exit_code == 2
    assert nowhere.stderr.endswith("; name another folder\n")


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"images": []}, "0 images, 20 of VOC's 20 classes"),
        ({"categories": [{"id": 7, "name": "zebra"}]}, "images, 0 of VOC's 20 classes"),
        ({"images": [{"id": 1}]}, "not as COCO's: KeyError: 'file_name'"),
        ({"annotations": [annotation(1, 101 - CAT, [1, 2, 3, 4], 9)]}, "annotation 9 has no polygons as segmentation"),
        ({"annotations": [annotation(1, 101 - CAT, [1] * 7, 9)]}, "annotation 9 has no polygons as segmentation"),
        ({"annotations": [annotation(1, 101 - CAT, ["1"] * 6, 9)]}, "not as COCO's: TypeError: must be real number"),
        ({"annotations": [annotation(1, 101 - CAT, [math.nan] * 6, 9)]}, "annotation 9 has no polygons"),
        (
            {"images": [{"id": 1, "file_name": "1.jpg", "width": 0, "height": 9}]},
            "image 1 has no whole numbers above 0",
        ),
        ({"images": [{"id": 1, "file_name": "1.jpg", "width": 9, "height": 9}] * 2}, ": 1.jpg more than once; "),
        ({"annotations": 3}, "no list of annotations"),
    ],
)
def test_annotations_that_cannot_be_drawn(changes: dict[str, Any], fact: str, tmp_path: Path) -> None:
    result = zoo(coco(tmp_path / "coco", **changes), tmp_path / "made")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"zoo: {tmp_path}/coco/annotations/instances_train2017.json: ")
    assert fact in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "made").exists()


def test_half_a_copy_of_coco_is_refused(tmp_path: Path) -> None:
    root = coco(tmp_path / "coco")
    (root / "val2017" / "3.jpg").unlink()
    result = zoo(root, tmp_path / "made")
    assert result.stderr == f"zoo: {root}/val2017: lacks 3.jpg of instances_val2017.json; copy the rest\n"
    (root / "annotations" / "instances_val2017.json").unlink()
    assert "not an annotation file that can be read: " in zoo(root, tmp_path / "made").stderr
