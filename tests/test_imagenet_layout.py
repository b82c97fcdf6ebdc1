"""ImageNet as it is downloaded: its validation images in folders, or flat beside the devkit that says their classes."""

import os
from pathlib import Path

import pytest
from small_datasets import config, imagenet_tree, message, meta_mat, picture, summarise

from zoo import plan
from zoo.errors import DatasetError
from zoo.layouts import imagenet

DEVKIT = Path("ILSVRC2012_devkit_t12", "data")
TRUTH = DEVKIT / "ILSVRC2012_validation_ground_truth.txt"
FIRST, SECOND = (Path("val", f"ILSVRC2012_val_{number:08d}.JPEG") for number in (1, 2))


def classes(root: Path) -> dict[str, str]:
    """WNIDs of the validation images by file name."""
    summary = summarise("imagenet", root)
    assert summary.labels == ("n01440764", "n01443537")
    images = imagenet.images(root, summary, "val")
    return {file.name: summary.labels[each] for file, each in zip(images.files, images.classes, strict=True)}


def test_class_ids_of_the_devkit_are_in_another_order_than_the_classes(tmp_path: Path) -> None:
    assert classes(imagenet_tree(tmp_path)) == {FIRST.name: "n01443537", SECOND.name: "n01440764"}


def test_images_sorted_into_folders_have_the_same_classes(tmp_path: Path) -> None:
    root = imagenet_tree(tmp_path)
    flat = classes(root)
    for name, wnid in flat.items():
        (root / "val" / wnid).mkdir()
        (root / "val" / name).rename(root / "val" / wnid / name)
    (root / TRUTH).unlink()
    assert classes(root) == flat


def test_the_devkit_s_files_may_stand_in_data_and_its_synsets_in_a_text(tmp_path: Path) -> None:
    root = imagenet_tree(tmp_path)
    flat = classes(root)
    (root / DEVKIT).rename(root / "data")
    assert classes(root) == flat
    (root / "data" / "meta.mat").unlink()
    (root / "data" / "synsets.txt").write_text("n01443537 goldfish, Carassius auratus\nn01440764 tench\n")
    assert classes(root) == flat


def test_an_edit_of_the_ground_truth_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = imagenet_tree(tmp_path)
    monkeypatch.setenv("TINY", str(root))
    before = plan.data_settings("tiny", config("imagenet")), summarise("imagenet", root).digest
    (root / TRUTH).write_text("2\n1\n")
    os.utime(root / TRUTH, ns=(1, 1))
    assert plan.data_settings("tiny", config("imagenet")) != before[0]
    assert summarise("imagenet", root).digest != before[1]


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("1\n3\n", "no class ID from 1 to 2: line 2: '3'"),
        ("0\n1\n", "no class ID from 1 to 2: line 1: '0'"),
        ("1\nn01440764\n", "no class ID from 1 to 2: line 2: 'n01440764'"),
        ("1\n", "val/ILSVRC2012_val_00000002.JPEG without a class in"),
        ("1\n2\n1\n", "val/ lacks ILSVRC2012_val_00000003.JPEG of the 3 in"),
        ("1\n1\n", "val/ has no image of n01440764"),
    ],
)
def test_a_ground_truth_that_is_not_the_images(text: str, fact: str, tmp_path: Path) -> None:
    root = imagenet_tree(tmp_path)
    (root / TRUTH).write_text(text)
    assert fact in message("imagenet", root)


def test_what_the_devkit_lacks_is_named(tmp_path: Path) -> None:
    root = imagenet_tree(tmp_path)
    (root / DEVKIT / "meta.mat").write_bytes(b"MATLAB 5.0 MAT-file, cut")
    assert f"{DEVKIT}/meta.mat is damaged, or not the devkit's: " in message("imagenet", root)
    meta_mat(root / DEVKIT / "meta.mat", {1: "tench", 2: "n01440764"})
    assert f"{DEVKIT}/meta.mat: no WNID, such as n01440764, at 1: 'tench'" in message("imagenet", root)
    (root / DEVKIT / "meta.mat").unlink()
    assert f"{DEVKIT}/ has neither meta.mat nor synsets.txt" in message("imagenet", root)
    (root / TRUTH).unlink()
    assert f"val/ has no folders of classes, and there is no {TRUTH} that names them" in message("imagenet", root)


def test_classes_and_images_that_one_side_lacks_are_said_at_once(tmp_path: Path) -> None:
    root = imagenet_tree(tmp_path)
    (root / "train" / "n01440764").rename(root / "train" / "n09999999")
    picture(root / "val" / "holiday.jpg")
    (root / FIRST).unlink()
    refused = message("imagenet", root)
    for fact in ("val/holiday.jpg without a class in", f"val/ lacks {FIRST.name} of the 2", "lacks n01440764 of"):
        assert fact in refused


@pytest.mark.parametrize("corrupt", ["refuse", "skip"])
def test_a_class_without_an_image_is_named(corrupt: str, tmp_path: Path) -> None:
    root = imagenet_tree(tmp_path)
    (root / "train" / "n01443537" / "n01443537_0.JPEG").unlink()
    assert "train/ has no image of n01443537" in message("imagenet", root, corrupt=corrupt)


def test_a_ground_truth_that_changed_since_is_noticed_when_images_are_read(tmp_path: Path) -> None:
    root = imagenet_tree(tmp_path)
    summary = summarise("imagenet", root)
    (root / TRUTH).write_text("1\n7\n")
    with pytest.raises(DatasetError, match=r"no class ID .*; build the data step again$"):
        imagenet.images(root, summary, "val")


def test_without_train_or_without_images(tmp_path: Path) -> None:
    root = imagenet_tree(tmp_path)
    (root / "train").rename(root / "elsewhere")
    assert "train/ is missing" in message("imagenet", root)
    for split in ("train", "val"):
        (tmp_path / "empty" / split).mkdir(parents=True)
    assert "train/ has no image, val/ has no image" in message("imagenet", tmp_path / "empty")
