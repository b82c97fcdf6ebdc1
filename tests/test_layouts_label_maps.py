"""Layouts of label maps: which of them cannot be used, and what is said of it."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_datasets import (
    SIZE,
    TREES,
    coco_tree,
    config,
    imagefolder_tree,
    label_map,
    label_pngs_tree,
    message,
    picture,
    summarise,
    voc_tree,
)

from zoo import layouts
from zoo.data import image_files, label_maps
from zoo.errors import DatasetError
from zoo.job import Job
from zoo.layouts import voc
from zoo.steps import data


@pytest.mark.parametrize("mode", ["P", "L"])
def test_labels_are_indices_of_grey_or_palette(mode: str, tmp_path: Path) -> None:
    labels = label_maps.read_labels(label_map(tmp_path / "a.png", mode=mode), 2)
    assert (labels.shape, labels.dtype) == ((7, 9), np.uint8)
    assert (labels[0, 0], labels[1, 1], labels[-1, -1]) == (1, 0, 255)


def test_a_label_that_is_no_class_is_named(tmp_path: Path) -> None:
    file = label_map(tmp_path / "a.png", value=2)
    with pytest.raises(DatasetError, match=rf"{file}: label 2 where there are 2 classes, from 0, and 255"):
        label_maps.read_labels(file, 2)
    assert label_maps.read_labels(file, 3)[0, 0] == 2


@pytest.mark.parametrize("mode", ["RGB", "I;16", "1"])
def test_labels_of_another_kind_of_image_are_refused(mode: str, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.new(mode, SIZE).save(file)
    with pytest.raises(DatasetError, match=rf"{file}: an image of mode {mode} where labels are 8-bit"):
        label_maps.read_labels(file, 2)


@pytest.mark.parametrize("layout", ["label_pngs", "voc"])
@pytest.mark.parametrize("mode", ["RGB", "I;16", "1"])
def test_labels_of_another_kind_of_image_are_found_before_training(layout: str, mode: str, tmp_path: Path) -> None:
    root = TREES[layout](tmp_path)
    found = layouts.find(layout).images(root, summarise(layout, root), "train")
    Image.new(mode, SIZE).save(found.labels[0])
    place = found.labels[0].relative_to(root).as_posix()
    assert f"{place}: an image of mode {mode} where labels are 8-bit" in message(layout, root)
    assert summarise(layout, root, corrupt="skip").counts["train"] == 2


@pytest.mark.parametrize("layout", ["label_pngs", "voc"])
def test_every_wrong_pair_is_said_at_once_or_left_out(layout: str, tmp_path: Path) -> None:
    root = TREES[layout](tmp_path)
    whole = summarise(layout, root)
    found = layouts.find(layout).images(root, whole, "train")
    assert [label.stem for label in found.labels] == [image.stem for image in found.files]
    found.labels[0].unlink()
    label_map(found.labels[1], size=(7, 9))
    refused = message(layout, root)
    assert f"{found.files[0].relative_to(root)} has no {found.labels[0].relative_to(root)}" in refused
    assert f"{found.labels[1].relative_to(root)} is 7x9 and its image 9x7" in refused
    left = summarise(layout, root, corrupt="skip")
    assert left.skipped == tuple(file.relative_to(root).as_posix() for file in found.files[:2])
    assert layouts.find(layout).images(root, left, "train").labels == found.labels[2:]


@pytest.mark.parametrize("layout", ["label_pngs", "voc"])
def test_pixels_of_labels_are_looked_at_where_what_is_wrong_is_skipped(layout: str, tmp_path: Path) -> None:
    root = TREES[layout](tmp_path)
    found = layouts.find(layout).images(root, summarise(layout, root), "val")
    label_map(found.labels[0], value=200)
    assert summarise(layout, root).counts["val"] == 2
    assert summarise(layout, root, corrupt="skip").skipped == (found.files[0].relative_to(root).as_posix(),)


def test_many_wrong_pairs_are_counted(tmp_path: Path) -> None:
    root = label_pngs_tree(tmp_path)
    for file in (root / "labels").rglob("*.png"):
        file.unlink()
    assert "and 2 more such" in message("label_pngs", root)


def test_classes_have_the_configs_names(tmp_path: Path) -> None:
    root = label_pngs_tree(tmp_path)
    assert summarise("label_pngs", root, labels=["sky", "sea"]).labels == ("sky", "sea")


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    root = label_pngs_tree(tmp_path / "a")
    (root / "images" / "val2017").rename(root / "elsewhere")
    assert "images/val/ is missing or has no image" in message("label_pngs", root)
    root = voc_tree(tmp_path / "b")
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("")
    assert "val.txt is missing or empty" in message("voc", root)
    root = coco_tree(tmp_path / "c")
    (root / "annotations" / "instances_train2017.json").unlink()
    assert "annotations/instances_train.json is missing" in message("coco", root)


def test_a_list_that_is_no_text_names_no_image(tmp_path: Path) -> None:
    root = voc_tree(tmp_path)
    (root / "ImageSets/Segmentation/val.txt").write_bytes(b"\xff\xfe\x00")
    refused = message("voc", root)
    assert "is missing" in refused


@pytest.mark.parametrize("name", ["/etc/passwd", "../../x", "a" * 260])
def test_a_list_that_names_what_is_no_image(name: str, tmp_path: Path) -> None:
    root = voc_tree(tmp_path)
    listed = root / "ImageSets/Segmentation/val.txt"
    listed.write_text(f"{listed.read_text()}{name}\n", "utf-8-sig")  # as some editors of Windows begin a file
    assert f"JPEGImages/{name.removeprefix('/')}.jpg is missing (" in message("voc", root)
    assert summarise("voc", root, corrupt="skip").counts["val"] == 2


def test_a_file_where_a_folder_of_images_should_be(tmp_path: Path) -> None:
    root = label_pngs_tree(tmp_path)
    (root / "images").rename(root / "elsewhere")
    (root / "images").write_text("")
    assert "images/train/ is missing or has no image" in message("label_pngs", root)


@pytest.mark.parametrize("target", ["nowhere.jpg", "0.jpg"])
def test_a_link_that_leads_nowhere_is_named_or_left_out(target: str, tmp_path: Path) -> None:
    root = imagefolder_tree(tmp_path)
    (root / "train" / "loop").symlink_to("loop")
    file = root / "train" / "cat" / "0.jpg"
    file.unlink()
    file.symlink_to(target)
    assert message("imagefolder", root).startswith(f"{file}: ")
    assert summarise("imagefolder", root, corrupt="skip").skipped == ("train/cat/0.jpg",)


def test_a_name_that_the_summary_cannot_hold(tmp_path: Path) -> None:
    root = imagefolder_tree(tmp_path)
    for split in ("train", "val"):
        (root / split / "cat").rename(root / split / os.fsdecode(b"c\xff"))
    assert message("imagefolder", root) == f"{root}: the name 'c\\udcff' is not UTF-8; rename it"


def test_a_folder_that_cannot_be_read_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = imagefolder_tree(tmp_path / "data")

    def forbidden(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(image_files, "found", forbidden)
    settings = {"name": "tiny", "dataset": config("imagefolder", root=str(root)).model_dump(mode="json")}
    (tmp_path / "out").mkdir()
    with pytest.raises(DatasetError, match=r"cat: Permission denied; make it readable$"):
        data.run(Job("data", "tiny", "demo", tmp_path / "out", tmp_path, settings, {}, "0" * 64))
    assert not list((tmp_path / "out").iterdir())


def test_whatever_a_decoder_raises_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = picture(tmp_path / "a.png")

    def broken(_: object) -> None:
        raise RuntimeError("Failed to decode image:\nMissing item")  # as AVIF's does

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", broken)
    with pytest.raises(DatasetError, match=f"^{file}: not an image that can be decoded: Failed to decode image: Miss"):
        image_files.loaded(file)


def test_voc_is_trained_on_the_further_annotations_where_they_are(tmp_path: Path) -> None:
    root = voc_tree(tmp_path)
    (root / "ImageSets/Segmentation/trainaug.txt").write_text("2007_000032\n2011_000001\n")
    further = label_map(root / "SegmentationClassAug" / "2011_000001.png", mode="L")
    summary = summarise("voc", root)
    assert summary.counts == {"train": 2, "val": 2}
    assert voc.images(root, summary, "train").labels == (root / "SegmentationClass/2007_000032.png", further)
    (root / "ImageSets/Segmentation/trainaug.txt").write_text("2007_000042\n")
    assert "2007_000042 in both trainaug.txt and val.txt" in message("voc", root)
