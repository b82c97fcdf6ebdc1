"""Layouts on miniature copies of the real ones: what is read, and what is named where it is missing or damaged."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_checkout
import yaml
from PIL import Image

from zoo import layouts, plan
from zoo.building import code_version
from zoo.config import Dataset
from zoo.data import image_files, label_maps
from zoo.data.summary import SUMMARY, DatasetSummary, read_summary
from zoo.errors import DatasetError, InvalidInput, UnknownName
from zoo.job import Job
from zoo.layouts import coco, voc
from zoo.reading import library, registry
from zoo.steps import data
from zoo.training.images import decoded

TASKS = {"imagefolder": "classification", "label_pngs": "segmentation", "voc": "segmentation", "coco": "detection"}
SIZE = (9, 7)  # odd, and not square
HALF = (0.5, 0.5, 0.5)


def config(layout: str, **changes: Any) -> Dataset:
    settings = {
        "description": "test",
        "task": TASKS[layout],
        "layout": layout,
        "root": "$TINY",
        "num_classes": 2,
        "mean": HALF,
        "std": HALF,
        "licence": "none",
    }
    return Dataset.model_validate(settings | changes)


def summarise(layout: str, root: Path, **changes: Any) -> DatasetSummary:
    return layouts.find(layout).summarise("tiny", config(layout, **changes), root, inside=False)


def message(layout: str, root: Path, **changes: Any) -> str:
    """The error's, which is one line."""
    with pytest.raises(DatasetError) as caught:
        summarise(layout, root, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def picture(file: Path, mode: str = "RGB", size: tuple[int, int] = SIZE) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise(size, 50).convert(mode).save(file)
    return file


def label_map(file: Path, *, size: tuple[int, int] = SIZE, value: int = 1, mode: str = "P") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((size[1], size[0]), np.uint8)
    values[0, 0], values[-1, -1] = value, label_maps.IGNORED
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
    image.save(file)
    return file


def cut(file: Path) -> Path:
    """Keep the header and lose the rest."""
    file.write_bytes(file.read_bytes()[:-40])
    return file


def label_pngs_tree(root: Path) -> Path:
    for split, count in (("train2017", 3), ("val2017", 2)):
        for index in range(count):
            picture(root / "images" / split / f"{index:012d}.jpg")
            label_map(root / "labels" / split / f"{index:012d}.png", mode="L")
    return root


def voc_tree(root: Path) -> Path:
    for name in ("2007_000032", "2007_000039", "2007_000042", "2007_000061", "2007_000063"):
        picture(root / "JPEGImages" / f"{name}.jpg")
    picture(root / "JPEGImages" / "2011_000001.jpg")  # most of VOC's images have no label map
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000032\n2007_000039\n2007_000063\n")
    (lists / "val.txt").write_text("2007_000042\n2007_000061\n")
    for name in (lists / "train.txt").read_text().split() + (lists / "val.txt").read_text().split():
        label_map(root / "SegmentationClass" / f"{name}.png")
    return root


def coco_content(count: int) -> dict[str, Any]:
    """Like an annotation file of COCO: gaps in the categories' ids, a crowd, and a last image without objects."""
    return {
        "info": {},
        "licenses": [],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person", "supercategory": "person"}],
        "images": [
            {"id": 100 + index, "file_name": f"{index:012d}.jpg", "width": SIZE[0], "height": SIZE[1]}
            for index in range(count)
        ],
        "annotations": [
            {"id": 1, "image_id": 100, "category_id": 90, "bbox": [1.5, 2, 3, 4.25], "area": 12, "iscrowd": 0},
            {"id": 2, "image_id": 101, "category_id": 1, "bbox": [0, 0, 9, 7], "iscrowd": 1, "segmentation": {}},
            {"id": 3, "image_id": 100, "category_id": 1, "bbox": [-0.4, 0, 2, 7.5]},
        ],
    }


def coco_tree(root: Path) -> Path:
    for split, count in (("train2017", 3), ("val2017", 2)):
        for index in range(count):
            picture(root / split / f"{index:012d}.jpg")
        write_json(root, split, coco_content(count))
    return root


def imagefolder_tree(root: Path) -> Path:
    for split, label, count in (("train", "cat", 2), ("train", "dog", 1), ("val", "cat", 1), ("val", "dog", 1)):
        for index in range(count):
            picture(root / split / label / f"{index}.jpg")
    return root


def write_json(root: Path, split: str, content: object) -> Path:
    file = root / "annotations" / f"instances_{split}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))
    return file


TREES: dict[str, Callable[[Path], Path]] = {
    "coco": coco_tree,
    "imagefolder": imagefolder_tree,
    "label_pngs": label_pngs_tree,
    "voc": voc_tree,
}


# What every layout does


def first_image(layout: str, root: Path) -> Path:
    place = {"coco": "train2017", "imagefolder": "train/cat", "label_pngs": "images/train2017", "voc": "JPEGImages"}
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
    for file in root.rglob("*.jpg"):
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


# Label maps


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


@pytest.mark.parametrize("name", ["/etc/passwd", "../../x", "a" * 5000])
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


# COCO


def test_coco_s_objects(tmp_path: Path) -> None:
    root = coco_tree(tmp_path)
    summary = summarise("coco", root)
    assert summary.labels == ("person", "toothbrush")
    images = coco.images(root, summary, "train")
    assert images == coco.Images(
        files=tuple(root / "train2017" / f"{index:012d}.jpg" for index in range(3)),
        ids=(100, 101, 102),
        sizes=(SIZE, SIZE, SIZE),
        boxes=(((1.5, 2.0, 4.5, 6.25), (0.0, 0.0, 1.6, 7.0)), ((0.0, 0.0, 9.0, 7.0),), ()),
        classes=((1, 0), (0,), ()),
        crowds=((False, False), (True,), ()),
        categories=(1, 90),
        annotations=root / "annotations" / "instances_train2017.json",
    )


WRONG = {
    "an unknown image": ({"image_id": 7}, "image 7 is unknown"),
    "no image": ({"image_id": None}, "image None is unknown"),
    "an unknown category": ({"category_id": 2}, "category 2 is unknown"),
    "no width": ({"bbox": [1, 1, 0, 3]}, "a box without area"),
    "a negative height": ({"bbox": [1, 1, 3, -1]}, "a box without area"),
    "outside": ({"bbox": [8, 5, 4, 2]}, "a box outside the image of 9x7"),
    "just outside": ({"bbox": [9.2, 5, 0.5, 2]}, "a box outside the image of 9x7"),
    "three numbers": ({"bbox": [1, 2, 3]}, "bbox is not four numbers"),
    "text": ({"bbox": [1, 2, 3, "4"]}, "bbox is not four numbers"),
    "not a number": ({"bbox": [1, 2, float("nan"), 4]}, "bbox is not four numbers"),
    "no box": ({"bbox": None}, "bbox is not four numbers"),
    "beyond floats": ({"bbox": [1, 2, 10**400, 4]}, "bbox is not four numbers"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_an_annotation_that_cannot_be_meant_is_named_or_left_out(kind: str, tmp_path: Path) -> None:
    changes, fact = WRONG[kind]
    root, content = coco_tree(tmp_path), coco_content(3)
    content["annotations"].append(dict(content["annotations"][0], id=4) | changes)
    write_json(root, "train2017", content)
    refused = message("coco", root)
    assert "annotations/instances_train2017.json: annotations[3]: " in refused
    assert fact in refused
    summary = summarise("coco", root, corrupt="skip")
    assert summary.skipped == ("annotations/instances_train2017.json: annotations[3]",)
    assert [len(boxes) for boxes in coco.images(root, summary, "train").boxes] == [2, 1, 0]


def test_everything_wrong_with_images_is_said_at_once_or_left_out(tmp_path: Path) -> None:
    root, content = coco_tree(tmp_path), coco_content(3)
    content["images"] += [
        {"id": 100, "file_name": "000000000002.jpg", "width": 9, "height": 7},
        {"id": 200, "file_name": "gone.jpg", "width": 9, "height": 7},
        {"file_name": "000000000002.jpg"},
        {"id": 201, "file_name": "000000000002.jpg", "width": 0, "height": 7},
        {"id": 202, "file_name": "000000000002.jpg", "width": 10**400, "height": 7},
        {"id": 10**30, "file_name": "000000000002.jpg", "width": 9, "height": 7},
    ]
    content["annotations"].append({"id": 9, "image_id": 200, "category_id": 1, "bbox": [0, 0, 2, 2]})
    content["images"][2]["width"] = 8
    write_json(root, "train2017", content)
    refused = message("coco", root)
    for fact in ("images[3]: 000000000002.jpg: image id 100 is taken", "gone.jpg is missing", "and 4 more such"):
        assert fact in refused
    summary = summarise("coco", root, corrupt="skip")
    places = [f"annotations/instances_train2017.json: images[{index}]" for index in range(3, 9)]
    assert summary.skipped == (*places, "train2017/000000000002.jpg")
    assert coco.images(root, summary, "train").ids == (100, 101)


def test_an_image_of_another_size_than_its_annotations_say(tmp_path: Path) -> None:
    root = coco_tree(tmp_path)
    picture(root / "val2017" / "000000000000.jpg", size=(7, 9))
    assert "val2017/000000000000.jpg: is 7x9, but 9x7 in its annotations" in message("coco", root)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ('{"images": [', "not an annotation file that can be read: Expecting value"),
        ("\ufffe\udcff", "not an annotation file that can be read"),
        ("[]", "no list of images, annotations, categories"),
        ('{"images": [], "annotations": {}, "categories": []}', "no list of annotations"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "or a name"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "lack a whole number of their own as id, or a name",
        ),
    ],
)
@pytest.mark.parametrize("corrupt", ["refuse", "skip"])
def test_a_corrupt_annotation_file_is_named_whatever_the_config_says(
    text: str, fact: str, corrupt: str, tmp_path: Path
) -> None:
    root = coco_tree(tmp_path)
    file = root / "annotations" / "instances_val2017.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    refused = message("coco", root, corrupt=corrupt)
    assert str(file) in refused
    assert fact in refused


def test_an_empty_class_is_refused_unless_skipping_is_allowed(tmp_path: Path) -> None:
    root, content = coco_tree(tmp_path), coco_content(3)
    del content["annotations"][0]
    write_json(root, "train2017", content)
    assert "train has no box of toothbrush (corrupt: skip in its config allows that)" in message("coco", root)
    summary = summarise("coco", root, corrupt="skip")
    assert (summary.labels, summary.skipped) == (("person", "toothbrush"), ())


def test_something_must_be_there_to_learn(tmp_path: Path) -> None:
    root = coco_tree(tmp_path)
    write_json(root, "train2017", coco_content(3) | {"annotations": []})
    for corrupt in ("refuse", "skip"):
        assert "train has no box;" in message("coco", root, corrupt=corrupt)


def test_a_class_may_be_empty_in_validation(tmp_path: Path) -> None:
    root, content = coco_tree(tmp_path), coco_content(2)
    del content["annotations"][0]
    write_json(root, "val2017", content)
    assert summarise("coco", root).counts == {"train": 3, "val": 2}


def test_categories_are_as_many_as_the_config_says_and_the_same_in_both_splits(tmp_path: Path) -> None:
    root, content = coco_tree(tmp_path), coco_content(2)
    assert "2 categories, expected 3" in message("coco", root, num_classes=3)
    content["categories"][0]["name"] = "comb"
    write_json(root, "val2017", content)
    assert "the annotations of train and val differ in their categories" in message("coco", root)


# Configs


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"layout: imagefolder": "layout: image_folder"},
            ":3: layout: unknown layout 'image_folder'; did you mean 'ima",
        ),
        (
            {"layout: imagefolder": "layout: coco"},
            ":3: layout: 'coco' holds labels for detection, not classification; for classification: imagefolder",
        ),
        (
            {"layout: imagefolder": "layout: imagefolder\nlabels: [a, b]"},
            ":4: labels: 'imagefolder' takes the classes' names from its files; remove them",
        ),
        (
            {"task: classification\nlayout: imagefolder": "task: segmentation\nlayout: voc"},
            ":1: labels: required field is missing: 'voc' does not name its classes; add 'labels: [...]'",
        ),
        (
            {"task: classification\nlayout: imagefolder": "task: segmentation\nlayout: voc\nlabels: [a, b]"},
            ":4: labels: 2 names for 10 classes; name every class once",
        ),
    ],
)
def test_a_layout_that_does_not_fit_is_one_problem(changes: dict[str, str], complaint: str, tmp_path: Path) -> None:
    (old, new), text = *changes.items(), small_checkout.DATASET_TEXT
    assert text.count(old) == 1
    # A dataset that no profile uses, so that nothing else is wrong.
    files = small_checkout.TEXTS | {"configs/datasets/other.yaml": text.replace(old, new)}
    with pytest.raises(InvalidInput) as caught:
        library.load(small_checkout.write(tmp_path, files))
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"configs/datasets/other.yaml{complaint}")


def test_the_projects_own_datasets_say_what_their_layouts_need() -> None:
    files = sorted((Path(__file__).parents[1] / "configs" / "datasets").glob("*.yaml"))
    found = {file.stem: Dataset.model_validate(yaml.safe_load(file.read_text())) for file in files}
    assert {"digit_scenes_segmentation", "digit_scenes_detection", "voc2012", "coco2017", "coco_stuff"} <= set(found)
    for dataset in found.values():
        layout = layouts.find(dataset.layout)
        assert dataset.task == layout.TASK
        assert len(dataset.labels) == (0 if layout.NAMES_CLASSES else dataset.num_classes)
        assert len(set(dataset.labels)) == len(dataset.labels)
