"""`zoo data check`: every layout's miniature whole, and damaged in every way that it can be."""

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from small_datasets import TREES, coco_content, config, cut, label_map, picture, write_json

from zoo.cli import main
from zoo.data import decoding
from zoo.data.contents import Sample
from zoo.data.decoding import looked_at
from zoo.data.summary import SUMMARY
from zoo.errors import DatasetError
from zoo.job import Job
from zoo.layouts import find
from zoo.steps import data
from zoo.terminal import progress_bar

Checks = Callable[..., Result]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checks:
    """Runs it in a checkout whose one dataset, tiny, has this layout and is in ./copy."""
    monkeypatch.chdir(tmp_path)

    def run(layout: str, *arguments: str, **changes: Any) -> Result:
        settings = config(layout, **({"root": "copy"} | changes)).model_dump(mode="json", exclude_defaults=True)
        if not find(layout).NAMES_CLASSES:
            settings["labels"] = [f"class {index}" for index in range(settings["num_classes"])]
        folder = tmp_path / "configs" / "datasets"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tiny.yaml").write_text(yaml.safe_dump(settings))
        return CliRunner().invoke(main, ["data", "check", "tiny", "--jobs", "1", *arguments], catch_exceptions=False)

    return run


def first(layout: str, root: Path) -> Sample:
    return find(layout).contents(config(layout), root).samples["train"][0]


def lines(result: Result) -> list[str]:
    """Of stderr: the problems, of which there are some."""
    assert result.exit_code == 1
    found = result.stderr.splitlines()
    assert result.stdout.splitlines()[-1].startswith(f"not whole: {len(found)} problem")
    return found


@pytest.mark.parametrize("layout", TREES)
def test_a_whole_copy(layout: str, check: Checks, tmp_path: Path) -> None:
    TREES[layout](tmp_path / "copy")
    result = check(layout, expected={"train": 3, "val": 2})
    assert (result.exit_code, result.stderr) == (0, "")
    assert "images   train 3, val 2\nclasses  2\n" in result.stdout
    assert result.stdout.endswith("whole: every image can be decoded, and every label is a class\n")


@pytest.mark.parametrize("layout", TREES)
def test_the_digest_that_it_prints_can_be_written_into_the_config(layout: str, check: Checks, tmp_path: Path) -> None:
    TREES[layout](tmp_path / "copy")
    result = check(layout)
    digest = re.search(r"^files    ([0-9a-f]{64}) \(SHA-256 of paths and sizes; written into", result.stdout, re.M)
    assert digest is not None
    again = check(layout, files_digest=digest[1])
    assert again.exit_code == 0
    assert "compared with the config" in again.stdout
    image = first(layout, tmp_path / "copy").image
    image.write_bytes(image.read_bytes() + b"\0")
    (problem,) = lines(check(layout, files_digest=digest[1]))
    assert problem.startswith("copy: files were added, lost or changed: their digest is ")
    assert problem.endswith(f", not {digest[1][:12]} of files_digest in configs/datasets/tiny.yaml")


@pytest.mark.parametrize("corrupt", ["refuse", "skip"])
@pytest.mark.parametrize("layout", TREES)
def test_everything_wrong_is_said_at_once(layout: str, corrupt: str, check: Checks, tmp_path: Path) -> None:
    root = TREES[layout](tmp_path / "copy")
    damaged = cut(first(layout, root).image).relative_to(root)
    counts, damage, digest = lines(
        check(layout, corrupt=corrupt, expected={"train": 4, "val": 2}, files_digest="0" * 64)
    )
    assert counts == "copy: train is half-copied: 3 images of 4"
    assert damage.startswith(f"copy: damaged, of 5 images or what describes them: {damaged}: not an image that")
    assert digest.endswith("not 000000000000 of files_digest in configs/datasets/tiny.yaml")


@pytest.mark.parametrize("layout", TREES)
def test_an_empty_folder_and_one_that_is_not_there(layout: str, check: Checks, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    result = check(layout)
    assert all(line.startswith("copy: ") and "is missing" in line for line in lines(result))
    assert "files " not in result.stdout
    missing = check(layout, "--root", "elsewhere")
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert missing.stderr == "zoo: elsewhere: no such folder; give --root the folder of the copy\n"


@pytest.mark.parametrize("layout", ["label_pngs", "voc"])
def test_labels_out_of_range_in_a_label_map(layout: str, check: Checks, tmp_path: Path) -> None:
    root = TREES[layout](tmp_path / "copy")
    file = first(layout, root).label_map
    assert file is not None
    label_map(file, value=7)
    (problem,) = lines(check(layout))
    assert f"{file.relative_to(root)}: label 7 where there are 2 classes, from 0, and 255 for what to ignore" in problem


def test_labels_out_of_range_in_annotations_and_in_a_ground_truth(check: Checks, tmp_path: Path) -> None:
    root, content = TREES["coco"](tmp_path / "copy"), coco_content(3)
    content["annotations"].append({"id": 4, "image_id": 100, "category_id": 7, "bbox": [1, 1, 2, 2]})
    write_json(root, "train2017", content)
    (problem,) = lines(check("coco"))
    place = "annotations/instances_train2017.json: annotations[3]"
    assert problem == f"copy: annotations that cannot be used: {place}: category 7 is unknown"
    skipped = check("coco", corrupt="skip")
    assert skipped.exit_code == 0
    assert "note     left out, as corrupt: skip in its config says: annotations" in skipped.stdout
    truth = TREES["imagenet"](tmp_path / "other") / "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("1\n1001\n")
    assert "no class ID from 1 to 2: line 2: '1001'" in lines(check("imagenet", root="other"))[0]


@pytest.mark.parametrize(("layout", "place"), [("imagefolder", "train/dog"), ("imagenet", "train/n01443537")])
def test_a_class_with_no_image(layout: str, place: str, check: Checks, tmp_path: Path) -> None:
    root = TREES[layout](tmp_path / "copy")
    for file in (root / place).iterdir():
        file.unlink()
    assert f"copy: train/ has no image of {Path(place).name}" in lines(check(layout))


def test_a_class_that_nothing_shows(check: Checks, tmp_path: Path) -> None:
    root, content = TREES["coco"](tmp_path / "copy"), coco_content(3)
    del content["annotations"][0]
    write_json(root, "train2017", content)
    assert "train has no box of toothbrush" in lines(check("coco"))[0]
    TREES["voc"](tmp_path / "other")  # of which no pixel is the third
    result = check("voc", root="other", num_classes=3)
    assert result.exit_code == 0
    assert "note     no pixel of train is class 2\n" in result.stdout


def test_an_annotation_file_that_is_none(check: Checks, tmp_path: Path) -> None:
    root = TREES["coco"](tmp_path / "copy")
    (root / "annotations" / "instances_val2017.json").write_text("{")
    (problem,) = lines(check("coco"))
    assert problem.startswith("copy: annotations/instances_val2017.json: not an annotation file that can be read")


def test_all_that_is_damaged_is_listed(check: Checks, tmp_path: Path) -> None:
    root = TREES["label_pngs"](tmp_path / "copy")
    for file in root.rglob("*.jpg"):
        cut(file)
    result = check("label_pngs")
    assert "and 2 more" in lines(result)[0]
    assert result.stdout.endswith("; --list FILE names all that is damaged\n")
    assert "--list" not in check("label_pngs", "--list", "damaged.txt").stdout
    listed = (tmp_path / "damaged.txt").read_text().splitlines()
    assert [line.partition(":")[0] for line in listed] == sorted(
        file.relative_to(root).as_posix() for file in root.rglob("*.jpg")
    )


# What a data step made


def test_generated_data_is_compared_with_what_the_data_step_left(check: Checks, tmp_path: Path) -> None:
    generated = {"root": None, "generator": "digit_scenes", "parameters": {"train": 20, "val": 10, "size": 16}}
    changes = generated | {"num_classes": 10}
    unmade = check("imagefolder", **changes)
    assert (unmade.exit_code, unmade.stderr) == (2, "zoo: artifacts/demo/data/tiny: not made yet; doit data:tiny\n")
    folder = tmp_path / "artifacts" / "demo" / "data" / "tiny"
    folder.mkdir(parents=True)
    settings = {"dataset": config("imagefolder", **changes).model_dump(mode="json"), "name": "tiny"}
    data.run(Job("data", "tiny", "demo", folder, folder.parent, settings, {}, "0"))
    whole = check("imagefolder", **changes)
    assert (whole.exit_code, whole.stderr) == (0, "")
    assert "(SHA-256 of paths and contents, compared with dataset.json)" in whole.stdout
    picture(sorted(folder.rglob("*.png"))[0], size=(16, 16))
    (changed,) = lines(check("imagefolder", **changes))
    assert changed.startswith("artifacts/demo/data/tiny: files were added, lost or changed: ")
    (folder / SUMMARY).write_text("{")
    (unread,) = lines(check("imagefolder", **changes))
    assert unread.startswith("artifacts/demo/data/tiny: dataset.json: cannot be read: ")


# What cannot be checked


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("layout: imagefold\n", "configs/datasets/tiny.yaml:1: layout: unknown layout 'imagefold'"),
        ("layuot: voc\n", "configs/datasets/tiny.yaml:1: layuot: unknown field; did you mean 'layout'?"),
    ],
)
def test_a_config_that_is_wrong(text: str, complaint: str, check: Checks, tmp_path: Path) -> None:
    check("imagefolder")
    file = tmp_path / "configs" / "datasets" / "tiny.yaml"
    file.write_text(text + "\n".join(line for line in file.read_text().splitlines() if "layout" not in line) + "\n")
    result = CliRunner().invoke(main, ["data", "check", "tiny"], catch_exceptions=False)
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_a_name_that_is_none_and_a_variable_that_is_not_set(check: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TINY", raising=False)
    unset = check("voc", root="$TINY")
    assert (unset.exit_code, "root: $TINY is not set" in unset.stderr) == (2, True)
    unknown = CliRunner().invoke(main, ["data", "check", "tinny"])
    assert unknown.exit_code == 2
    assert unknown.stderr == ("zoo: dataset tinny: there is no configs/datasets/tinny.yaml; did you mean 'tiny'?\n")


# Processes and the bar


def test_several_processes_see_what_one_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = TREES["voc"](tmp_path)
    cut(first("voc", root).image)
    contents = find("voc").contents(config("voc"), root)
    samples = [sample for each in contents.samples.values() for sample in each]
    monkeypatch.setattr(decoding, "CHUNK", 2)
    one = list(looked_at(samples, root, 2, jobs=1))
    assert [bool(seen.fault) for seen in one] == [True, False, False, False, False]
    assert list(looked_at(samples, root, 2, jobs=2)) == one


def test_a_process_that_is_killed_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures.process import BrokenProcessPool

    def killed(*_: object) -> None:
        raise BrokenProcessPool

    root = TREES["imagefolder"](tmp_path)
    samples = find("imagefolder").contents(config("imagefolder"), root).samples["train"]
    monkeypatch.setattr(decoding, "CHUNK", 1)
    monkeypatch.setattr(decoding.ProcessPoolExecutor, "map", killed)
    with pytest.raises(
        DatasetError, match=rf"^{root}: a process that decoded images was killed, .*; use fewer --jobs$"
    ):
        list(looked_at(samples, root, 2, jobs=2))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, expected in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        with progress_bar.shown("decoding tiny") as advance:
            advance(3, 4)
        assert ("decoding tiny" in stream.getvalue() and "3/4" in stream.getvalue()) is expected
        assert bool(stream.getvalue()) is expected
