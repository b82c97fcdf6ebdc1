"""Copies of datasets that are odd: names that are no text, links in a circle, lists that say a thing twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from small_datasets import coco_content, coco_tree, config, imagefolder_tree, imagenet_tree, voc_tree, write_json

from zoo.cli import main
from zoo.data import judging
from zoo.data.checking import Checked, check
from zoo.errors import DatasetError

DAMAGED = "damaged, of {} images or what describes them: "


def checked(layout: str, root: Path, **changes: Any) -> Checked:
    settings = config(layout, **changes)
    return check("tiny", settings, root, inside=False, jobs=1, advance=lambda done, total: None)


def refused(layout: str, root: Path, fact: str) -> None:
    """By the data step."""
    with pytest.raises(DatasetError) as caught:
        judging.summarise("tiny", config(layout), root, inside=False)
    assert fact in str(caught.value)
    assert str(caught.value).isprintable()


def checkout(folder: Path) -> None:
    """Make it one, whose one dataset is in ./copy."""
    configs = folder / "configs" / "datasets"
    configs.mkdir(parents=True)
    (configs / "tiny.yaml").write_text(
        "description: test\ntask: classification\nlayout: imagefolder\nroot: copy\nnum_classes: 2\n"
        "mean: [0.5, 0.5, 0.5]\nstd: [0.5, 0.5, 0.5]\nlicence: none\n"
    )


# Images


def test_archives_that_were_not_unpacked_are_no_training_images(tmp_path: Path) -> None:
    root = imagenet_tree(tmp_path)
    for file in root.glob("train/*/*"):
        file.unlink()
    for folder in root.glob("train/*"):
        folder.rmdir()
        folder.with_suffix(".tar").write_text("not unpacked")
    facts = ("train/ has 0 classes, expected 2", "train/ has no image")
    assert checked("imagenet", root).problems == facts
    refused("imagenet", root, ", ".join(facts))


def test_images_without_a_class_are_not_said_to_be_missing(tmp_path: Path) -> None:
    root = imagenet_tree(tmp_path)
    next(root.rglob("*ground_truth.txt")).unlink()
    (problem,) = checked("imagenet", root).problems
    assert problem.startswith("val/ has no folders of classes, and there is no ILSVRC2012_devkit_t12/data/")


def test_a_missing_file_is_told_once(tmp_path: Path) -> None:
    root = voc_tree(tmp_path)
    (root / "JPEGImages" / "2007_000032.jpg").unlink()
    found = checked("voc", root)
    assert found.problems == (f"{DAMAGED.format(5)}JPEGImages/2007_000032.jpg is missing",)
    assert found.digest == ""


def test_a_link_to_itself_is_told_once(tmp_path: Path) -> None:
    (imagefolder_tree(tmp_path) / "train" / "cat" / "loop.jpg").symlink_to("loop.jpg")
    assert checked("imagefolder", tmp_path).problems == (f"{DAMAGED.format(6)}train/cat/loop.jpg is missing",)


# Lists


@pytest.mark.parametrize("line", [b"a\0b", b"\xff\xfe", b"a\x1b[31m", b"x" * 5000])
def test_a_list_of_names_that_no_file_has(line: bytes, tmp_path: Path) -> None:
    names = voc_tree(tmp_path) / "ImageSets" / "Segmentation" / "train.txt"
    names.write_bytes(names.read_bytes() + line + b"\n")
    (problem,) = checked("voc", tmp_path).problems
    assert problem.startswith(f"{DAMAGED.format(6)}JPEGImages/")
    assert problem.isprintable()
    assert len(problem) < 500
    refused("voc", tmp_path, "not a whole tiny: JPEGImages/")


def test_a_list_that_names_an_image_twice(tmp_path: Path) -> None:
    names = voc_tree(tmp_path) / "ImageSets" / "Segmentation" / "train.txt"
    names.write_text(names.read_text() + "2007_000032\n")
    assert checked("voc", tmp_path).problems == ("2007_000032 more than once in train.txt",)
    refused("voc", tmp_path, "2007_000032 more than once in train.txt")


def test_annotations_that_name_a_file_twice(tmp_path: Path) -> None:
    content = coco_content(3)
    content["images"][2]["file_name"] = content["images"][1]["file_name"]
    write_json(coco_tree(tmp_path), "train2017", content)
    (problem,) = checked("coco", tmp_path).problems
    place = "annotations/instances_train2017.json: images[2]: 000000000001.jpg"
    assert problem == f"annotations that cannot be used: {place}: is the file of another entry too"


# Names that are no UTF-8, and what they are written into


def test_a_class_whose_name_cannot_be_written(tmp_path: Path) -> None:
    imagefolder_tree(tmp_path)
    for split in ("train", "val"):
        (tmp_path / split / "dog").rename(os.fsdecode(os.fsencode(tmp_path / split) + b"/d\xffg"))
    problem = r"the name 'd\udcffg' is not UTF-8; rename it"
    assert checked("imagefolder", tmp_path).problems == (problem,)
    refused("imagefolder", tmp_path, problem)


def test_a_damaged_file_of_any_name_is_a_line_of_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkout(tmp_path)
    folder = imagefolder_tree(tmp_path / "copy") / "train" / "cat"
    for name in (b"b\xffd.jpg", b"new\nline.jpg"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text("no image")
    result = CliRunner().invoke(main, ["data", "check", "tiny", "--list", "list.txt"], catch_exceptions=False)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    fact = "not an image that can be decoded: cannot identify its format"
    listed = (tmp_path / "list.txt").read_text().splitlines()
    assert listed == [rf"train/cat/b\udcffd.jpg: {fact}", rf"train/cat/new\nline.jpg: {fact}"]


@pytest.mark.parametrize(
    ("listed", "fact"),
    [("copy", "copy: is a folder; name a file"), ("a/b", "a/b: there is no folder a; make it, or name another")],
)
def test_a_list_that_cannot_be_written_is_told_before_anything_is_decoded(
    listed: str, fact: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkout(tmp_path)
    imagefolder_tree(tmp_path / "copy")
    monkeypatch.setattr("zoo.data.checking.check", None)
    result = CliRunner().invoke(main, ["data", "check", "tiny", "--list", listed], catch_exceptions=False)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"zoo: {fact}\n")


# Processes

WAITING = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from zoo.data.decoding import _begin
if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, mp_context=get_context("forkserver"), initializer=_begin)
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(600)
"""


def test_processes_that_decode_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    script = tmp_path / "waiting.py"
    script.write_text(WAITING)
    variables = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=variables) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        os.kill(worker, 0)  # it is there
        parent.send_signal(signal.SIGKILL)
        ended = parent.wait() == -signal.SIGKILL
    assert ended
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the process that decodes is left")
