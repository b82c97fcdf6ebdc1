"""The full profile from data to index by the real steps: a model of each task on a miniature of its dataset.

Published weights alone are made up: the library's own model with random ones, whose last layers prefer one class.
"""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import yaml
from small_datasets import SIZE, coco_content, coco_tree, meta_mat, picture, voc_tree, write_json

import zoo
from zoo import plan, sources, tasks, weight_files
from zoo.data import imagenet_devkit
from zoo.job import Job
from zoo.reading import library
from zoo.releases.manifest import Manifest
from zoo.releases.verification import verify
from zoo.sources import mmyolo
from zoo.steps.release import STAGES

REPOSITORY = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def imagenet(root: Path) -> Path:
    """An image of each class in either split, and in val/, which is flat, four more of the last: the devkit's ID 1."""
    wnids = [f"n{number:08d}" for number in range(1, 1001)]
    files = [f"val/{imagenet_devkit.file_name(number)}" for number in range(1, 1005)]
    for file in (*files, *(f"train/{wnid}/{wnid}_1.JPEG" for wnid in wnids)):
        picture(root / file)
    devkit = root / imagenet_devkit.FOLDERS[0]
    devkit.mkdir(parents=True)
    (devkit / imagenet_devkit.TRUTH).write_text("".join(f"{each}\n" for each in [*range(1, 1001), 1, 1, 1, 1]))
    meta_mat(devkit / imagenet_devkit.META, dict(enumerate([*reversed(wnids), "n09999999"], 1)))  # and a group
    return root


def coco(root: Path) -> Path:
    """COCO's 80 categories, a gap in their ids. The last fills every image: a detector with random weights finds that,
    as its boxes are larger than the image."""
    coco_tree(root)
    names = mmyolo.labels("yolov8/yolov8_n_syncbn_fast_8xb16-500e_coco.py", "coco")
    categories = [{"id": id_, "name": name} for id_, name in zip([1, *range(12, 91)], names, strict=True)]
    for split, count in (("train2017", 3), ("val2017", 2)):
        content = coco_content(count) | {"categories": categories}
        for image in range(100, 100 + count):
            content["annotations"].append({"id": image, "image_id": image, "category_id": 90, "bbox": [0, 0, *SIZE]})
        write_json(root, split, content)
    return root


@dataclass(frozen=True)
class Case:
    """A model on the data that the full profile has for its task, and what is known of it beforehand."""

    name: str
    dataset: str
    miniature: Callable[[Path], Path]
    counts: dict[str, int]  # of the miniature's images
    schedule: str
    url: str  # how that of the weights begins
    size: int  # pixels that their publisher evaluates them at
    preferred: int  # the class that they answer, whatever the image
    biases: str  # those of the last layers, by the end of their names
    metric: str
    figure: Any  # of the source, which answers so
    batch_size: int = 2
    reconstruction: Any = False


CLASSIFIER = Case(
    *("mobilenet_v3_small_lite", "imagenet", imagenet, {"train": 1000, "val": 1004}, "finetune_30"),
    *("https://download.pytorch.org/models/mobilenet_v3_small-", 224, 999, r"classifier\.3", "top1", 5 / 1004),
    *(64, {"blocks": 18, "steps": 2, "images": 64}),
)
SEGMENTER = Case(
    *("lraspp_mobilenet_v3_large_lite", "voc2012", voc_tree, {"train": 3, "val": 2}, "segmentation_finetune_30"),
    *("https://download.pytorch.org/models/lraspp_mobilenet_v3_large-", 520, 0, "(low|high)_classifier"),
    *("iou/background", pytest.approx(0.98, abs=0.02)),  # one pixel of an image is another class
)
DETECTOR = Case(
    *("yolov8_n_lite", "coco2017", coco, {"train": 3, "val": 2}, "detection_finetune_30"),
    *("https://download.openmmlab.com/mmyolo/v0/yolov8/yolov8_n_", 640, 79, r"cls_preds\.\d\.\d"),
    *("map_50", pytest.approx(0.25, abs=0.1)),  # one category of two is found, in two of three places at most
)
MISSING = not all(mmyolo.find_spec(name) for name in mmyolo.LIBRARIES)
CASES = (CLASSIFIER, SEGMENTER, pytest.param(DETECTOR, marks=pytest.mark.skipif(MISSING, reason="mmyolo is an extra")))


def planned(root: Path, case: Case) -> plan.Model:
    """By a copy of the recipes and configs whose data is tiny, whose training lasts an epoch and wins nothing back."""
    for name in ("configs", "recipes"):
        shutil.copytree(REPOSITORY / name, root / name)
    for recipe in (root / "recipes").glob("*/*.yaml"):
        recipe.write_text(re.sub(r"(?m)^accept: .*\n", "", recipe.read_text()))
    own = {"epochs": 1, "batch_size": case.batch_size, "workers": 0, "warmup_epochs": 0, "reconstruction_steps": 2}
    for name in (f"datasets/{case.dataset}", f"schedules/{case.schedule}", "profiles/full"):
        content = yaml.safe_load((root / f"configs/{name}.yaml").read_text())
        content |= {key: value for key, value in (own | {"expected": case.counts}).items() if key in content}
        for uses in content.get("tasks", {}).values():
            uses["input_size"] = 64
        (root / f"configs/{name}.yaml").write_text(yaml.safe_dump(content))
    return plan.model(library.load(root), case.name, "full")


def published(model: plan.Model, case: Case, file: Path) -> Path:
    """Random weights in place of the published ones, as those are stored."""
    source = model.recipe.source
    torch.manual_seed(0)
    state = sources.find(source.library).build(source.name, num_classes=model.dataset.num_classes).state_dict()
    for name, value in state.items():
        if re.search(rf"{case.biases}\.bias$", name):
            value[case.preferred] += 10
    torch.save({"state_dict": state} if source.library == "mmyolo" else state, file)
    return file


def require_told(told: Manifest, model: plan.Model, case: Case) -> None:
    """A release says where its weights are from, how they were measured and trained, and under which licences."""
    weights, before, edited, lite = told.origin.weights, *(getattr(told.accuracy, stage) for stage in STAGES)
    assert (told.provenance.profile, told.licences.data, told.lite) == ("full", model.dataset.licence, True)
    assert (weights, told.origin.preprocessing.size) == (model.recipe.source.weights, 64)
    said = f"how {told.origin.library} evaluates its weights {weights}, at 64 pixels in place of {case.size}"
    assert told.origin.measured_as == f"{said} as profile full has it"
    assert {(each.dataset, each.images) for each in (before, edited, lite)} == {(case.dataset, case.counts["val"])}
    assert before.trained_on == f"published weights {weights}, not trained here"
    assert (before.epochs, before.metrics[case.metric]) == (0, case.figure)
    fitted = f"{case.dataset} without labels, blocks fitted to the source's in 2 steps"
    assert (edited.trained_on, bool(edited.seconds)) == ((fitted, True) if case.reconstruction else ("", False))
    assert told.surgery.warm_start["reconstruction"] == case.reconstruction
    taught = f"{case.dataset}, fine-tuned from the source's weights, the source as teacher"
    assert (lite.trained_on, lite.epochs, lite.schedule) == (taught, 1, case.schedule)
    assert (lite.training["batch_size"], lite.training["teaching"]["distillation"]["weight"]) == (case.batch_size, 0.5)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.dataset)
def test_a_model_passes_every_step(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, shared = planned(tmp_path, case), tmp_path / "artifacts" / "full"
    monkeypatch.setenv(str(model.dataset.root).removeprefix("$"), str(case.miniature(tmp_path / "copy")))
    fetched = Mock(return_value=published(model, case, tmp_path / "published.pth"))
    monkeypatch.setattr(weight_files, "fetched", fetched)
    folders = {"data": shared / "data" / case.dataset} | {step: shared / case.name / step for step in plan.STEPS}
    for step, folder in folders.items():
        row = plan.STEPS.get(step)  # none: the data step, which is a dataset's
        settings = row.settings(model) if row else plan.data_settings(case.dataset, model.dataset)
        upstream = {each: folders[each] for each in (row.reads if row else ())}
        folder.mkdir(parents=True)
        job = Job(step, case.name, "full", folder, shared, settings, upstream, key="0" * 64)
        import_module(f"zoo.steps.{step}").run(job)
    assert {call.args[0].startswith(case.url) for call in fetched.call_args_list} == {True}
    assert list(verify(shared / "zoo")) == [(f"{case.name} v1", None)]
    release = zoo.get(case.name, index=shared / "zoo")
    require_told(release.manifest, model, case)
    assert release.file("onnx").stat().st_size > 10**6
    network, told = release.load(), release.manifest.accuracy.lite
    network, data = getattr(network, "network", network), folders["data"]
    measured = tasks.find(model.recipe.task).evaluate(network, data, release.manifest.origin.preprocessing)
    assert {name: measured[name] for name in told.metrics} == told.metrics
    assert told.metrics[case.metric] > 0
