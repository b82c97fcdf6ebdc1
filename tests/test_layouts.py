"""Layouts on miniature copies of the real ones: what is read, and what is named where it is missing or damaged."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_datasets import SIZE, TASKS, TREES, config, cut, imagefolder_tree, label_map, message, picture, summarise

from zoo import layouts, plan
from zoo.building import code_version
from zoo.data import image_files
from zoo.data.summary import SUMMARY, read_summary
from zoo.errors import DatasetError, UnknownName
from zoo.job import Job
from zoo.reading import registry
from zoo.steps import data
from zoo.training.images import decoded


def first_image(layout: str, root: Path) -> Path:
    place = {
        "coco": "train2017",
        "imagefolder": "train/cat",
        "imagenet": "train/n01440764",
        "label_pngs": "images/train2017",
        "voc": "JPEGImages",
    }
    return sorted((root / place[layout]).iterdir())[0]


def test_every_layout_has_a_miniature_here() -> None:
    assert set(TREES) == set(TASKS) == registry.modules("zoo.layouts")
    assert {name: layouts.find(name).TASK for name in TREES} == TASKS


def test_an_unknown_layout_suggests_the_near_one() -> None:
    with pytest.raises(UnknownName, match="unknown layout 'cocoa'; did you mean 'coco'"):
        layouts.find("cocoa")


@pytest.mark.parametrize("layout", TREES)
def test_a_whole_dataset_is_described_and_read(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, folder = TREES[layout](tmp_path / "tiny"), tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("TINY", str(root))
    settings = {"dataset": config(layout).model_dump(mode="json"), "name": "tiny"}
    result = data.run(Job("data", "tiny", "full", folder, folder.parent, settings, {}, "0" * 64))
    assert (result.outputs, result.summary) == ((folder / SUMMARY,), {"train": 3, "val": 2})
    summary = read_summary(folder)
    assert (summary.root, summary.skipped, summary.digest_of) == (str(root), (), "paths and sizes")
    for split, count in summary.counts.items():
        images = layouts.find(layout).images(folder, summary, split)
        assert len(images.files) == count
        assert {decoded(file).size for file in images.files} == {SIZE}


@pytest.mark.parametrize("layout", TREES)
def test_an_image_cut_short_is_named_when_read_or_left_out_at_once(layout: str, tmp_path: Path) -> None:
    root = TREES[layout](tmp_path)
    damaged = cut(first_image(layout, root))
    refused = summarise(layout, root)
    assert refused.counts["train"] == 3
    with pytest.raises(DatasetError, match=rf"{damaged}: not an image that can be decoded: .*corrupt: skip"):
        decoded(layouts.find(layout).images(root, refused, "train").files[0])
    skipped = summarise(layout, root, corrupt="skip")
    assert (skipped.skipped, skipped.counts) == ((damaged.relative_to(root).as_posix(),), {"train": 2, "val": 2})
    left = layouts.find(layout).images(root, skipped, "train").files
    assert len(left) == 2
    assert damaged not in left
    assert skipped.digest != refused.digest


@pytest.mark.parametrize("layout", TREES)
def test_where_no_image_is_whole_nothing_is_left_to_skip(layout: str, tmp_path: Path) -> None:
    root = TREES[layout](tmp_path)
    for file in (*root.rglob("*.jpg"), *root.rglob("*.JPEG")):
        file.write_bytes(b"not an image")
    assert "no image of" in message(layout, root, corrupt="skip")


@pytest.mark.parametrize("layout", TREES)
def test_an_image_that_went_missing_is_noticed(layout: str, tmp_path: Path) -> None:
    root = TREES[layout](tmp_path)
    summary = summarise(layout, root)
    if layout == "voc":
        (root / "ImageSets/Segmentation/train.txt").write_text("2007_000032\n")
    else:
        first_image(layout, root).unlink()
    with pytest.raises(DatasetError, match="build the data step again"):
        layouts.find(layout).images(root, summary, "train")


@pytest.mark.parametrize(
    ("layout", "index"),
    [("coco", "annotations/instances_val2017.json"), ("voc", "ImageSets/Segmentation/val.txt")],
)
def test_an_edit_inside_a_list_or_an_annotation_file_is_seen(
    layout: str, index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = TREES[layout](tmp_path)
    monkeypatch.setenv("TINY", str(root))
    before = plan.data_settings("tiny", config(layout)), summarise(layout, root).digest
    text = (root / index).read_text()
    edited = text.replace("2007_000061", "2011_000001") if layout == "voc" else text.replace("4.25", "4.75")
    assert len(edited) == len(text) != 0
    (root / index).write_text(edited)
    os.utime(root / index, ns=(1, 1))
    if layout == "voc":
        label_map(root / "SegmentationClass" / "2011_000001.png")
    assert plan.data_settings("tiny", config(layout)) != before[0]
    assert summarise(layout, root).digest != before[1]


def test_the_data_step_s_version_depends_on_its_layout_and_no_other() -> None:
    tree = code_version.Tree((Path(__file__).parents[1],))
    codes = {tree.version("zoo.steps.data", (("zoo.layouts", name),)).code for name in ("coco", "voc", "label_pngs")}
    assert len(codes) == 3


# Images


@pytest.mark.parametrize(
    ("mode", "ending"), [("L", "png"), ("I;16", "png"), ("I;16", "tif"), ("P", "png"), ("1", "png")]
)
def test_grey_and_16_bit_images_of_odd_size_are_read_as_rgb(mode: str, ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"odd.{ending}"
    if mode == "I;16":
        Image.fromarray(np.full((7, 9), 257 * 100, np.uint16)).save(file)
        assert np.asarray(decoded(file)).max() == 100
    else:
        picture(file, mode)
    assert (decoded(file).mode, decoded(file).size, image_files.size(file)) == ("RGB", SIZE, SIZE)


def test_grey_images_count_as_whole(tmp_path: Path) -> None:
    root = imagefolder_tree(tmp_path)
    picture(root / "train" / "dog" / "0.jpg", "L")
    Image.fromarray(np.zeros((7, 9), np.uint16)).save(root / "train" / "dog" / "1.png")
    assert summarise("imagefolder", root, corrupt="skip").counts["train"] == 4


def test_a_class_whose_images_are_all_skipped_is_an_error(tmp_path: Path) -> None:
    root = imagefolder_tree(tmp_path)
    cut(root / "train" / "dog" / "0.jpg")
    assert "train/ has no image of dog" in message("imagefolder", root, corrupt="skip")
