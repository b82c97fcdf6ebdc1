"""The full profile's data steps, on miniature copies of the layouts that its datasets have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small_datasets import SIZE, coco_tree, imagefolder_tree, imagenet_tree, label_pngs_tree, voc_tree

from zoo import layouts, tasks
from zoo.config import Dataset
from zoo.data.summary import DatasetSummary, read_summary
from zoo.errors import DatasetError
from zoo.job import Job
from zoo.measured_as import by_dataset
from zoo.steps import data
from zoo.tasks import classification
from zoo.training.images import decoded

REPOSITORY = Path(__file__).parents[1]
COUNTS = {"train": 3, "val": 2}
CASES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "ImageNet, flat validation": ("imagenet", imagenet_tree),
    "ImageNet in folders": ("imagenet", imagefolder_tree),
    "COCO 2017": ("coco2017", coco_tree),
    "VOC 2012": ("voc2012", voc_tree),
    "COCO in VOC's classes": ("coco_voc", label_pngs_tree),
    "COCO-Stuff": ("coco_stuff", label_pngs_tree),
}


def settings(name: str) -> dict[str, Any]:
    """The project's own config, but for what a miniature has less of."""
    found = yaml.safe_load((REPOSITORY / "configs" / "datasets" / f"{name}.yaml").read_text())
    assert found["expected"]["val"] > 1000
    found |= {"num_classes": 2, "expected": COUNTS}
    return found | ({"labels": ["sky", "sea"]} if "labels" in found else {})


def run(name: str, folder: Path, **changes: Any) -> DatasetSummary:
    folder.mkdir(exist_ok=True)
    job = Job("data", name, "full", folder, folder.parent, {"dataset": settings(name) | changes, "name": name}, {}, "0")
    result = data.run(job)
    assert result.summary == COUNTS
    return read_summary(folder)


def test_every_dataset_of_the_full_profile_has_a_miniature_here() -> None:
    profile = yaml.safe_load((REPOSITORY / "configs" / "profiles" / "full.yaml").read_text())
    used = {task["dataset"] for task in profile["tasks"].values()}
    assert len(used) == 3
    assert used <= {name for name, _ in CASES.values()}


@pytest.mark.parametrize("case", CASES)
def test_the_data_step_takes_a_whole_copy(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, tree = CASES[case]
    root = tree(tmp_path / "copy")
    monkeypatch.setenv(settings(name)["root"].removeprefix("$"), str(root))
    summary = run(name, tmp_path / "step")
    assert (summary.root, summary.num_classes, len(summary.labels)) == (str(root), 2, 2)
    for split, count in COUNTS.items():
        images = layouts.find(summary.layout).images(tmp_path / "step", summary, split)
        assert [decoded(file).size for file in images.files] == [SIZE] * count


@pytest.mark.parametrize("case", CASES)
def test_its_task_reads_what_the_data_step_leaves(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, tree = CASES[case]
    monkeypatch.setenv(settings(name)["root"].removeprefix("$"), str(tree(tmp_path / "copy")))
    summary = run(name, tmp_path / "step")
    task, dataset = tasks.find(summary.task), Dataset.model_validate(settings(name))
    how = by_dataset(name, dataset, task.GEOMETRY, 32, "full")
    assert how is not None
    (batch,) = task.calibration_batches(tmp_path / "step", how.preprocessing, 2, 1, 0)
    assert (batch.shape, batch.dtype) == ((2, 3, 32, 32), torch.float32)
    assert task.validation_sample(tmp_path / "step", how.preprocessing, 2).shape == (2, 3, 32, 32)


@pytest.mark.parametrize(("case", "classes"), [("ImageNet, flat validation", [1, 0]), ("ImageNet in folders", [0, 1])])
def test_a_classifier_is_measured_with_the_classes_of_either_layout(
    case: str, classes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGENET", str(CASES[case][1](tmp_path / "copy")))
    run("imagenet", tmp_path / "step")
    how = by_dataset("imagenet", Dataset.model_validate(settings("imagenet")), "crop", None, "full")
    assert how is not None
    ((inputs, labels),) = classification.validation_batches(tmp_path / "step", how.preprocessing)
    assert (inputs.shape, labels.tolist()) == ((2, 3, 224, 224), classes)


@pytest.mark.parametrize("case", CASES)
def test_the_data_step_refuses_half_a_copy_and_leaves_nothing(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, tree = CASES[case]
    root = tree(tmp_path / "copy")
    monkeypatch.setenv(settings(name)["root"].removeprefix("$"), str(root))
    with pytest.raises(DatasetError, match="train is half-copied: 3 images of 4") as caught:
        run(name, tmp_path / "step", expected={"train": 4})
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "step").iterdir())


def test_the_configs_are_valid_with_what_a_miniature_changes() -> None:
    checked = {name: Dataset.model_validate(settings(name)) for name, _ in CASES.values()}
    assert all(dataset.evaluation is not None and dataset.homepage for dataset in checked.values())
    assert len(checked) == 5
