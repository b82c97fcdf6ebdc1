"""Digit scenes of every task, and the ImageFolder layout: deterministic, whole, refused with the reason where not."""

import hashlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo import datasets
from zoo.config import Dataset
from zoo.data import judging
from zoo.data.label_maps import read_labels
from zoo.data.summary import SPLITS, expanded_root, read_summary
from zoo.datasets import digit_scenes
from zoo.digits import drawing, groups
from zoo.errors import DatasetError, UnknownName
from zoo.job import Job, Result
from zoo.layouts import coco, imagefolder, label_pngs
from zoo.steps import data

MEAN = (0.5, 0.5, 0.5)


def dataset(**changes: object) -> Dataset:
    settings: dict[str, object] = {
        "description": "test",
        "task": "classification",
        "layout": "imagefolder",
        "num_classes": 10,
        "mean": MEAN,
        "std": MEAN,
        "licence": "none",
    }
    return Dataset.model_validate(settings | changes)


SEGMENTATION = {"task": "segmentation", "layout": "label_pngs", "generator": "digit_scenes_segmentation"}
SEGMENTATION |= {"num_classes": 11, "labels": ["background", *"0123456789"]}
DETECTION = {"task": "detection", "layout": "coco", "generator": "digit_scenes_detection"}
TASKS: dict[str, dict[str, object]] = {
    "classification": {"generator": "digit_scenes"},
    "segmentation": SEGMENTATION,
    "detection": DETECTION,
}


def make(folder: Path, parameters: Mapping[str, int | float], task: str = "classification") -> Result:
    config = dataset(**TASKS[task], parameters=dict(parameters))
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"dataset": config.model_dump(mode="json"), "name": "digits"}
    return data.run(Job("data", "digits", "demo", folder, folder.parent, settings, {}, "0" * 64))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.*")}


@pytest.mark.parametrize(("task", "files"), [("classification", 31), ("segmentation", 61), ("detection", 33)])
def test_same_seed_gives_the_same_bytes_and_another_seed_others(task: str, files: int, tmp_path: Path) -> None:
    small = {"train": 20, "val": 10, "size": 32}
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    result = make(first, small | {"seed": 3}, task)
    make(again, small | {"seed": 3}, task)
    make(other, small | {"seed": 4}, task)
    assert contents(first) == contents(again)
    assert {file.relative_to(first).as_posix() for file in result.outputs} == contents(first).keys()
    assert len(contents(first)) == files
    digests = {read_summary(folder).digest for folder in (first, again, other)}
    assert len(digests) == 2


def test_more_images_leave_the_others_as_they_are(tmp_path: Path) -> None:
    digit_scenes.generate(tmp_path / "few", train=10, val=10, size=32)
    digit_scenes.generate(tmp_path / "many", train=30, val=10, size=32)
    few, many = contents(tmp_path / "few"), contents(tmp_path / "many")
    assert few.items() <= many.items()


def test_classification_s_pixels_are_those_that_accuracies_were_measured_on(tmp_path: Path) -> None:
    digit_scenes.generate(tmp_path, train=20, val=10, size=32, seed=3)
    digest = hashlib.sha256()
    for file in sorted(tmp_path.rglob("*.png")):
        digest.update(file.relative_to(tmp_path).as_posix().encode() + b"\0" + Image.open(file).tobytes())
    assert digest.hexdigest() == "4c6c3b245fbed5018148dc7b1b982c007b74df78e35fc9ddb167c9ead690f2f7"


def test_the_step_promises_every_image_and_describes_them(tmp_path: Path) -> None:
    result = make(tmp_path / "digits", {"train": 20, "val": 10, "size": 32})
    assert len(result.outputs) == 31
    assert all(file.is_file() for file in result.outputs)
    summary = read_summary(tmp_path / "digits")
    assert (summary.counts, summary.root, summary.labels) == (
        {"train": 20, "val": 10},
        ".",
        tuple("0123456789"),
    )
    assert summary.digest_of == "paths and contents"
    with Image.open(tmp_path / "digits" / "train" / "7" / "0001.png") as image:
        assert (image.size, image.mode) == ((32, 32), "RGB")


def test_what_a_kill_left_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    (folder / "partial" / "train" / "0").mkdir(parents=True)
    (folder / "train" / "0").mkdir(parents=True)
    (folder / "train" / "0" / "9999.png").write_bytes(b"half")
    make(folder, {"train": 10, "val": 10, "size": 32})
    assert read_summary(folder).counts == {"train": 10, "val": 10}
    assert not (folder / "partial").exists()


def test_train_and_validation_share_no_digit() -> None:
    pools = drawing.digit_pools(seed=0)
    masks = {split: {mask.tobytes() for pool in pools[split] for mask in pool} for split in pools}
    assert len(masks["train"] | masks["val"]) == 1797
    assert not masks["train"] & masks["val"]


def test_train_and_validation_share_no_part_of_a_photograph() -> None:
    pools = drawing.photograph_pools()
    sizes = [[photograph.size for photograph in pools[split]] for split in SPLITS]
    assert sizes == [[(448, 427), (448, 427)], [(192, 427), (192, 427)]]  # of two that are 640 pixels wide


def test_labels_are_where_the_digits_were_painted(tmp_path: Path) -> None:
    make(tmp_path, {"train": 20, "val": 10, "size": 64, "noise": 0}, "segmentation")
    summary = read_summary(tmp_path)
    assert (summary.num_classes, summary.labels[3]) == (11, "2")
    images = label_pngs.images(tmp_path, summary, "train")
    for index, (file, label) in enumerate(zip(images.files, images.labels, strict=True)):
        grey = np.asarray(Image.open(file).convert("L"), float)
        labels = read_labels(label, 11)
        assert labels.shape == grey.shape == (64, 64)
        assert set(np.unique(labels)) > {0}
        assert index % 10 + 1 in labels  # the first digit goes round the classes
        assert grey[labels > 0].mean() > grey[labels == 0].mean() + 30
    assert len(images.files) == 20


def test_boxes_are_around_what_is_seen_and_overlap_little(tmp_path: Path) -> None:
    make(tmp_path, {"train": 40, "val": 10, "size": 96, "most": 4}, "detection")
    summary = read_summary(tmp_path)
    assert (summary.labels, summary.counts) == (tuple("0123456789"), {"train": 40, "val": 10})
    images = coco.images(tmp_path, summary, "train")
    counts = {len(boxes) for boxes in images.boxes}
    assert counts == {1, 2, 3, 4}
    assert [classes[0] for classes in images.classes] == [index % 10 for index in range(40)]
    for boxes in images.boxes:
        assert all(8 <= max(right - left, bottom - top) <= 64 for left, top, right, bottom in boxes)
        assert all(groups.shared(one, other) <= 0.2 for one, other in itertools.combinations(boxes, 2))


def test_what_a_later_digit_covers_is_not_seen(tmp_path: Path) -> None:
    style = drawing.Style(64, 0.5, 0.7, 100.0, fragments=0, strokes=0, noise=0.0)
    scenes = list(groups.written(tmp_path / "x", "val", 10, style, seed=0, most=3, overlap=0.5))
    pairs = [pair for scene in scenes for pair in itertools.combinations(scene.digits, 2)]
    assert len(pairs) >= 5
    assert not any((one.seen & other.seen).any() for one, other in pairs)
    for digit in (digit for scene in scenes for digit in scene.digits):
        left, top, right, bottom = digit.box
        assert digit.seen[top:bottom, left:right].sum() == digit.seen.sum() > 0
        assert digit.seen[top].any()
        assert digit.seen[:, right - 1].any()


@pytest.mark.parametrize(
    ("other", "share"), [((0, 0, 2, 2), 1.0), ((2, 0, 4, 2), 0.0), ((1, 0, 3, 2), 1 / 3), ((0, 0, 4, 4), 0.25)]
)
def test_the_intersection_over_union_of_boxes(other: tuple[int, int, int, int], share: float) -> None:
    assert groups.shared((0, 0, 2, 2), other) == groups.shared(other, (0, 0, 2, 2)) == share


@pytest.mark.parametrize("task", TASKS)
def test_a_size_out_of_range_is_one_clear_error(task: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"generator digit_scenes.*correct"):
        make(tmp_path / "digits", {"train": 10, "val": 10, "size": 32, "largest": 2.5, "smallest": 2.0}, task)


def test_a_digit_without_size_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"generator digit_scenes: .*zero.*correct"):
        make(tmp_path / "digits", {"train": 10, "val": 10, "largest": 0.0, "smallest": 0.0})


def test_a_wrong_parameter_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"digit_scenes.*'sise'.*correct"):
        make(tmp_path / "digits", {"sise": 3})


def test_an_unknown_generator_suggests_the_near_one() -> None:
    with pytest.raises(UnknownName, match="did you mean 'digit_scenes'"):
        datasets.find("digit_scene")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for split in SPLITS:
        for label in ("cat", "dog"):
            (tmp_path / split / label).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / split / label / "0.png")
    return tmp_path


def test_a_folder_of_one_s_own_is_verified_by_paths_and_sizes(tree: Path) -> None:
    summary = judging.summarise("pets", dataset(num_classes=2, root=str(tree)), tree, inside=False)
    assert (summary.labels, summary.root) == (("cat", "dog"), str(tree))
    assert summary.digest_of == "paths and sizes"
    (tree / "val" / "dog" / "1.png").write_bytes(b"12345")
    assert judging.summarise("pets", dataset(num_classes=2), tree, inside=False).digest != summary.digest


def test_everything_that_is_missing_is_said_at_once(tree: Path) -> None:
    (tree / "train" / "dog" / "0.png").unlink()
    (tree / "val" / "dog" / "0.png").rename(tree / "val" / "0.png")
    (tree / "val" / "dog").rmdir()
    with pytest.raises(DatasetError) as caught:
        judging.summarise("pets", dataset(num_classes=3), tree, inside=False)
    message = str(caught.value)
    facts = ("train/ has 2 classes, expected 3", "train/ has no image of dog", "val/ has 1 classes", "differ in dog")
    for fact in facts:
        assert fact in message
    assert "\n" not in message


@pytest.mark.parametrize("missing", SPLITS)
def test_a_missing_split_is_named(tree: Path, missing: str) -> None:
    (tree / missing).rename(tree / "elsewhere")
    with pytest.raises(DatasetError, match=f"{missing}/ is missing"):
        judging.summarise("pets", dataset(num_classes=2), tree, inside=False)


def test_a_missing_folder_and_an_unset_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match="no such folder; put pets there"):
        expanded_root("pets", dataset(root=str(tmp_path / "none")))
    with pytest.raises(DatasetError, match="no such folder; put pets there"):
        expanded_root("pets", dataset(root="~nobody-of-that-name/pets"))
    monkeypatch.delenv("PETS", raising=False)
    with pytest.raises(DatasetError, match=r"\$PETS/images is not set"):
        expanded_root("pets", dataset(root="$PETS/images"))
    monkeypatch.setenv("PETS", str(tmp_path))
    assert expanded_root("pets", dataset(root="$PETS")) == tmp_path


def test_an_image_that_went_missing_is_noticed(tree: Path) -> None:
    summary = judging.summarise("pets", dataset(num_classes=2), tree, inside=False)
    (tree / "val" / "cat" / "0.png").unlink()
    with pytest.raises(DatasetError, match=r"1 images where dataset\.json says 2"):
        imagefolder.images(tree, summary, "val")


def test_a_damaged_summary_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"name": "pets"}))
    with pytest.raises(DatasetError, match="build the data step again"):
        read_summary(tmp_path)
