"""The full profile from data to index, nothing shortened away: a model of each task on a miniature of its dataset.

Only what published weights hold is made up, as they are not downloaded: the library's own model with random weights,
whose last layer prefers one class, so that its figures are known and are not 0.
"""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import yaml
from small_datasets import SIZE, coco_content, coco_tree, meta_mat, picture, voc_tree, write_json

import zoo
from zoo import plan, sources, tasks, weight_files
from zoo.data import imagenet_devkit
from zoo.job import Job
from zoo.reading import library
from zoo.releases.verification import verify
from zoo.sources import mmyolo

REPOSITORY = Path(__file__).parents[1]
INPUT = 64  # pixels, in place of what the weights are published for
HAS_MMYOLO = all(mmyolo.find_spec(name) for name in mmyolo.LIBRARIES)

pytestmark = pytest.mark.slow


def imagenet(root: Path) -> Path:
    """An image of each class for training; for validation, flat, another of each and four more of the last class.

    The devkit counts the classes backwards, so that its ID 1 is the last of them; ID 1001 is a group.
    """
    wnids = [f"n{number:08d}" for number in range(1, 1001)]
    truth = [*range(1, 1001), 1, 1, 1, 1]
    for wnid in wnids:
        picture(root / "train" / wnid / f"{wnid}_1.JPEG")
    for number in range(1, len(truth) + 1):
        picture(root / "val" / imagenet_devkit.file_name(number))
    devkit = root / imagenet_devkit.FOLDERS[0]
    devkit.mkdir(parents=True)
    (devkit / imagenet_devkit.TRUTH).write_text("".join(f"{each}\n" for each in truth))
    meta_mat(devkit / imagenet_devkit.META, dict(enumerate([*reversed(wnids), "n09999999"], 1)))
    return root


def coco(root: Path) -> Path:
    """COCO's 80 categories with the gaps in their ids; a toothbrush, the last of them, fills each split's first image.

    A detector with random weights finds what fills an image, as each of its boxes does.
    """
    coco_tree(root)
    ids = sorted({*range(1, 91)} - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
    names = mmyolo.labels("yolov8/yolov8_n_syncbn_fast_8xb16-500e_coco.py", "coco")
    categories = [{"id": number, "name": name} for number, name in zip(ids, names, strict=True)]
    filling = {"id": 4, "image_id": 100, "category_id": 90, "bbox": [0, 0, *SIZE]}
    for split, count in (("train2017", 3), ("val2017", 2)):
        content = coco_content(count)
        objects = [*content["annotations"], filling]
        write_json(root, split, content | {"categories": categories, "annotations": objects})
    return root


@dataclass(frozen=True)
class Case:
    """One model with the data that its task has in the full profile."""

    name: str
    dataset: str
    tree: Callable[[Path], Path]
    counts: dict[str, int]  # of the miniature's images
    schedule: str
    preferred: int  # the class that the weights answer
    last: str  # where the biases of the last layers end, which make it so
    site: str  # where the weights are published
    evaluated_at: int  # pixels, by the library
    shorter: dict[str, int] = field(default_factory=dict)  # in the schedule, beside what all have shorter
    reconstruction: int = 0  # steps


CASES = [
    Case(
        "mobilenet_v3_small_lite",
        *("imagenet", imagenet, {"train": 1000, "val": 1004}, "finetune_30"),
        *(999, r"classifier\.3", "https://download.pytorch.org/models/mobilenet_v3_small-", 224),
        shorter={"batch_size": 64, "reconstruction_steps": 2},
        reconstruction=2,
    ),
    Case(
        "lraspp_mobilenet_v3_large_lite",
        *("voc2012", voc_tree, {"train": 3, "val": 2}, "segmentation_finetune_30"),
        *(0, r"(low|high)_classifier", "https://download.pytorch.org/models/lraspp_mobilenet_v3_large-", 520),
    ),
    pytest.param(
        Case(
            "yolov8_n_lite",
            *("coco2017", coco, {"train": 3, "val": 2}, "detection_finetune_30"),
            *(79, r"cls_preds\.\d\.\d", "https://download.openmmlab.com/mmyolo/v0/yolov8/yolov8_n_", 640),
        ),
        marks=pytest.mark.skipif(not HAS_MMYOLO, reason="mmyolo is an extra"),
    ),
]


def change(file: Path, **values: Any) -> None:
    """Set keys that are in a YAML file."""
    content = yaml.safe_load(file.read_text())
    assert values.keys() <= content.keys(), file
    file.write_text(yaml.safe_dump(content | values))


def checkout(root: Path, case: Case) -> library.Library:
    """The recipes and configs for data that is tiny and a training that lasts an epoch and wins nothing back."""
    for name in ("configs", "recipes"):
        shutil.copytree(REPOSITORY / name, root / name)
    for recipe in (root / "recipes").glob("*/*.yaml"):
        recipe.write_text(re.sub(r"(?m)^accept: .*\n", "", recipe.read_text()))
    change(root / f"configs/datasets/{case.dataset}.yaml", expected=case.counts)
    shorter = {"epochs": 1, "batch_size": 2, "workers": 0, "warmup_epochs": 0} | case.shorter
    change(root / f"configs/schedules/{case.schedule}.yaml", **shorter)
    profile = root / "configs/profiles/full.yaml"
    by_task = yaml.safe_load(profile.read_text())["tasks"]
    change(profile, tasks={task: uses | {"input_size": INPUT} for task, uses in by_task.items()})
    return library.load(root)


def publish(model: plan.Model, case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file of random weights be what the library's URL of its published ones gives."""
    source, file = model.recipe.source, folder / "published.pth"
    torch.manual_seed(0)
    state = sources.find(source.library).build(source.name, num_classes=model.dataset.num_classes).state_dict()
    biases = [name for name in state if re.search(rf"{case.last}\.bias$", name)]
    assert biases
    for name in biases:
        state[name][case.preferred] += 10
    torch.save({"state_dict": state} if source.library == "mmyolo" else state, file)

    def fetched(url: str, what: str, *, by_library: bool = True) -> Path:
        assert url.startswith(case.site)
        assert by_library
        return file

    monkeypatch.setattr(weight_files, "fetched", fetched)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.dataset)
def test_a_model_passes_every_step_of_the_full_profile(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = checkout(tmp_path, case)
    model, shared = plan.model(found, case.name, "full"), tmp_path / "artifacts" / "full"
    assert (model.task.dataset, model.task.train, model.baseline_schedule) == (case.dataset, case.schedule, None)
    monkeypatch.setenv(str(model.dataset.root).removeprefix("$"), str(case.tree(tmp_path / "copy")))
    publish(model, case, tmp_path, monkeypatch)
    folders = {"data": shared / "data" / case.dataset} | {step: shared / case.name / step for step in plan.STEPS}
    settings = {"data": plan.data_settings(case.dataset, model.dataset)}
    settings |= {step: row.settings(model) for step, row in plan.STEPS.items()}
    for step, folder in folders.items():
        folder.mkdir(parents=True)
        upstream = {each: folders[each] for each in (plan.STEPS[step].reads if step != "data" else ())}
        job = Job(step, case.name, "full", folder, shared, settings[step], upstream, key="0" * 64)
        import_module(f"zoo.steps.{step}").run(job)
    assert list(verify(shared / "zoo")) == [(f"{case.name} v1", None)]
    print(zoo.get(case.name, index=shared / "zoo").manifest.model_dump_json(indent=1))
    print((folders["release"].parent / "../zoo/models" / case.name / "v1/card.md").read_text())
    assert 0
