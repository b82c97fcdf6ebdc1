"""Digit scenes and the ImageFolder layout: deterministic, whole, and refused with the reason where they are not."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from zoo import datasets, imagefolder
from zoo.config import Dataset
from zoo.datasets import digit_scenes
from zoo.errors import DatasetError, UnknownName
from zoo.job import Job, Result
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


def make(folder: Path, parameters: Mapping[str, int | float]) -> Result:
    config = dataset(generator="digit_scenes", parameters=dict(parameters))
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"dataset": config.model_dump(mode="json"), "name": "digits"}
    return data.run(Job("data", "digits", "demo", folder, folder.parent, settings, {}, "0" * 64))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.*")}


def test_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    small = {"train": 20, "val": 10, "size": 32}
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    make(first, small | {"seed": 3})
    make(again, small | {"seed": 3})
    make(other, small | {"seed": 4})
    assert contents(first) == contents(again)
    assert len(contents(first)) == 31
    digests = {imagefolder.read_summary(folder).digest for folder in (first, again, other)}
    assert len(digests) == 2


def test_more_images_leave_the_others_as_they_are(tmp_path: Path) -> None:
    digit_scenes.generate(tmp_path / "few", train=10, val=10, size=32)
    digit_scenes.generate(tmp_path / "many", train=30, val=10, size=32)
    few, many = contents(tmp_path / "few"), contents(tmp_path / "many")
    assert few.items() <= many.items()


def test_the_step_promises_every_image_and_describes_them(tmp_path: Path) -> None:
    result = make(tmp_path / "digits", {"train": 20, "val": 10, "size": 32})
    assert len(result.outputs) == 31
    assert all(file.is_file() for file in result.outputs)
    summary = imagefolder.read_summary(tmp_path / "digits")
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
    assert imagefolder.read_summary(folder).counts == {"train": 10, "val": 10}
    assert not (folder / "partial").exists()


def test_train_and_validation_share_no_digit() -> None:
    pools = digit_scenes._digit_pools(seed=0)
    masks = {split: {mask.tobytes() for pool in pools[split] for mask in pool} for split in pools}
    assert len(masks["train"] | masks["val"]) == 1797
    assert not masks["train"] & masks["val"]


def test_a_wrong_parameter_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"digit_scenes.*'sise'.*correct"):
        make(tmp_path / "digits", {"sise": 3})


def test_an_unknown_generator_suggests_the_near_one() -> None:
    with pytest.raises(UnknownName, match="did you mean 'digit_scenes'"):
        datasets.find("digit_scene")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for split in imagefolder.SPLITS:
        for label in ("cat", "dog"):
            (tmp_path / split / label).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / split / label / "0.png")
    return tmp_path


def test_a_folder_of_one_s_own_is_verified_by_paths_and_sizes(tree: Path) -> None:
    summary = imagefolder.summarise("pets", dataset(num_classes=2, root=str(tree)), tree, inside=False)
    assert (summary.labels, summary.root) == (("cat", "dog"), str(tree))
    assert summary.digest_of == "paths and sizes"
    (tree / "val" / "dog" / "1.png").write_bytes(b"12345")
    assert imagefolder.summarise("pets", dataset(num_classes=2), tree, inside=False).digest != summary.digest


def test_everything_that_is_missing_is_said_at_once(tree: Path) -> None:
    (tree / "train" / "dog" / "0.png").unlink()
    (tree / "val" / "dog" / "0.png").rename(tree / "val" / "0.png")
    (tree / "val" / "dog").rmdir()
    with pytest.raises(DatasetError) as caught:
        imagefolder.summarise("pets", dataset(num_classes=3), tree, inside=False)
    message = str(caught.value)
    facts = ("train/ has 2 classes, expected 3", "train/ has no image of dog", "val/ has 1 classes", "differ in dog")
    for fact in facts:
        assert fact in message
    assert "\n" not in message


@pytest.mark.parametrize("missing", imagefolder.SPLITS)
def test_a_missing_split_is_named(tree: Path, missing: str) -> None:
    (tree / missing).rename(tree / "elsewhere")
    with pytest.raises(DatasetError, match=f"{missing}/ is missing"):
        imagefolder.summarise("pets", dataset(num_classes=2), tree, inside=False)


def test_a_missing_folder_and_an_unset_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match="no such folder; put pets there"):
        imagefolder.expanded_root("pets", dataset(root=str(tmp_path / "none")))
    monkeypatch.delenv("PETS", raising=False)
    with pytest.raises(DatasetError, match=r"\$PETS/images is not set"):
        imagefolder.expanded_root("pets", dataset(root="$PETS/images"))
    monkeypatch.setenv("PETS", str(tmp_path))
    assert imagefolder.expanded_root("pets", dataset(root="$PETS")) == tmp_path


def test_an_image_that_went_missing_is_noticed(tree: Path) -> None:
    summary = imagefolder.summarise("pets", dataset(num_classes=2), tree, inside=False)
    (tree / "val" / "cat" / "0.png").unlink()
    with pytest.raises(DatasetError, match=r"1 images where dataset\.json says 2"):
        imagefolder.images(tree, summary, "val")


def test_a_damaged_summary_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"name": "pets"}))
    with pytest.raises(DatasetError, match="build the data step again"):
        imagefolder.read_summary(tmp_path)
