"""The schedules of configs/schedules: all are read, hold what was published, and train."""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from zoo import atomic
from zoo.config import Dataset, Preprocessing, ProfileTask
from zoo.data import judging
from zoo.data.summary import SUMMARY
from zoo.errors import StepError
from zoo.reading import library
from zoo.recipe import Train
from zoo.schedule import Decay, Schedule
from zoo.tasks import classification, segmentation
from zoo.training.optimizer import learning_rate

REPOSITORY = Path(__file__).parents[1]
SCHEDULES = {file.stem: file for file in sorted((REPOSITORY / "configs" / "schedules").glob("*.yaml"))}
NAMES = (
    *("classification_150", "classification_600", "classification_600_autoaugment"),
    *("demo_detection_finetune", "demo_detection_finetune_long", "demo_detection_scratch"),
    *("demo_detection_short", "demo_finetune"),
    *("demo_finetune_adamw", "demo_finetune_short", "demo_finetune_transformer", "demo_scratch"),
    *("demo_scratch_adamw", "demo_scratch_transformer"),
    *("demo_segmentation_finetune", "demo_segmentation_finetune_short", "demo_segmentation_scratch"),
    *("demo_segmentation_short", "demo_short", "demo_short_transformer"),
    *("detection_finetune_30", "detection_ppyoloe_80", "detection_rtmdet_300", "detection_yolov5_300"),
    *("detection_yolov6_400", "detection_yolov7_300", "detection_yolov8_500", "detection_yolox_300"),
    *("finetune_30", "segmentation_60", "segmentation_finetune_30"),
)
FAMILIES = {  # a model of the family that a schedule is for
    "ppyoloe": "ppyoloe/ppyoloe_plus_s_fast_8xb8-80e_coco.py",
    "rtmdet": "rtmdet/rtmdet_tiny_syncbn_fast_8xb32-300e_coco.py",
    "yolov5": "yolov5/yolov5_n-v61_syncbn_fast_8xb16-300e_coco.py",
    "yolov6": "yolov6/yolov6_n_syncbn_fast_8xb32-400e_coco.py",
    "yolov7": "yolov7/yolov7_tiny_syncbn_fast_8x16b-300e_coco.py",
    "yolov8": "yolov8/yolov8_n_syncbn_fast_8xb16-500e_coco.py",
    "yolox": "yolox/yolox_nano_fast_8xb8-300e_coco.py",
}
DEVICES = 8  # that every config of mmyolo is for
SUMMED_OVER = {"yolov5": 128, "yolov6": 8, "yolov7": 128, "yolov8": 128}  # times ours, what their loss is
SIZE = 96


def task_of(name: str) -> str:
    return next((task for task in ("detection", "segmentation") if task in name), "classification")


def of(task: str) -> list[str]:
    return [name for name in NAMES if task_of(name) == task]


def read(name: str) -> Schedule:
    return Schedule.model_validate(yaml.safe_load(SCHEDULES[name].read_text("utf-8")))


def miniature(name: str, **changes: object) -> Schedule:
    """The schedule for one iteration on two images."""
    return read(name).model_copy(update={"epochs": 1, "batch_size": 2, "workers": 0, **changes})


def test_every_file_is_read_and_known_here() -> None:
    assert tuple(library.load(REPOSITORY).schedules) == tuple(SCHEDULES) == NAMES
    assert len(NAMES) == 31
    assert [len(of(task)) for task in ("classification", "segmentation", "detection")] == [13, 6, 12]


@pytest.mark.parametrize("name", NAMES)
def test_a_schedule_that_was_published_says_where(name: str) -> None:
    sources = r"publication|torchvision|mmyolo|embedded data|As demo|published weights"
    assert re.search(sources, read(name).description)


def test_the_guide_names_every_published_schedule_with_its_length() -> None:
    guide = (REPOSITORY / "docs" / "guides" / "training.md").read_text("utf-8")
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \|", guide, re.MULTILINE)
    published = [read(name) for name in NAMES if not name.startswith("demo")]
    assert sorted(name for name, _, _ in rows) == [name for name in NAMES if not name.startswith("demo")]
    assert sorted((int(epochs), int(batch)) for _, epochs, batch in rows) == sorted(
        (each.epochs, each.batch_size) for each in published
    )
    recipes = set(library.load(REPOSITORY).recipes)
    rows_of_detectors = "".join(re.findall(r"^\| detection_.*", guide, re.MULTILINE))
    named = {*re.findall(r"\w+_lite", rows_of_detectors)}
    assert named <= recipes
    assert len(named) == 10


def test_the_guide_s_settings_are_read() -> None:
    guide = (REPOSITORY / "docs" / "guides" / "training.md").read_text("utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)]
    named = [Train.model_validate(block["train"]).schedule for block in blocks if "train" in block]
    tasks = [task for block in blocks for task in block.get("tasks", {}).values()]
    named += [ProfileTask.model_validate(task).train for task in tasks]
    assert named.count("classification_150") == 2
    assert {*named} <= {*NAMES, None}
    assert [Decay.model_validate(block["decay"]).floor for block in blocks if "decay" in block] == [0.05]


def test_what_was_published_for_classifiers_and_segmenters() -> None:
    plain, strong, segmenter = (read(name) for name in ("classification_150", "classification_600", "segmentation_60"))
    sgd = plain.optimizer
    assert (plain.epochs, plain.batch_size, plain.warmup_epochs, plain.decay) == (150, 256, 5, Decay())
    assert (sgd.type, sgd.lr, sgd.weight_decay) == ("SGD", 0.05, 4e-5)
    assert (strong.epochs, strong.batch_size, strong.warmup_epochs, strong.decay) == (600, 1024, 5, Decay())
    assert (strong.optimizer.lr, strong.optimizer.weight_decay, strong.crop) == (0.5, 2e-5, 176)
    assert (strong.label_smoothing, strong.mixup, strong.cutmix, strong.random_erasing) == (0.1, 0.2, 1.0, 0.1)
    assert strong.ema_decay == pytest.approx((1 - 2e-5 * 1024 * 32 / 600) ** (1 / 32), abs=5e-6)
    assert (segmenter.epochs, segmenter.optimizer.lr, segmenter.decay) == (60, 0.01, Decay(shape="poly", power=0.9))
    assert (segmenter.base, segmenter.crop) == (520, 480)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_detector_s_schedule_is_its_config_s(family: str) -> None:
    """In the units of our loss: SGD's steps are the same where lr times loss and lr times decay are."""
    if not find_spec("mmyolo"):
        pytest.skip("mmyolo is an extra")
    (name,) = (name for name in NAMES if name.startswith(f"detection_{family}_"))
    own, config = read(name), configuration(FAMILIES[family])
    optimizer, factor = config["optim_wrapper"]["optimizer"], SUMMED_OVER.get(family, 1)
    batch = DEVICES * config["train_batch_size_per_gpu"]
    decay = optimizer["weight_decay"] * (batch / 64 if "constructor" in config["optim_wrapper"] else 1)
    assert (own.epochs, own.batch_size) == (config["max_epochs"], batch)
    assert own.optimizer.type == optimizer["type"]
    assert own.optimizer.lr == pytest.approx(optimizer["lr"] * factor)
    assert own.optimizer.lr * own.optimizer.weight_decay == pytest.approx(optimizer["lr"] * decay)
    assert own.optimizer.momentum == optimizer.get("momentum", 0.9)
    assert own.optimizer.nesterov == optimizer.get("nesterov", False)
    clipped = config["optim_wrapper"].get("clip_grad")
    assert own.max_grad_norm == (clipped["max_norm"] / factor if clipped else None)
    (average,) = (hook for hook in config["custom_hooks"] if hook["type"] == "EMAHook")
    assert own.ema_decay == pytest.approx(1 - average["momentum"])
    hook = config["default_hooks"]["param_scheduler"]
    if hook["type"] == "YOLOv5ParamSchedulerHook":
        assert (own.decay, own.warmup_epochs) == (Decay(shape=hook["scheduler_type"], final=hook["lr_factor"]), 3)
    elif hook["type"] == "PPYOLOEParamSchedulerHook":
        left = (1 + np.cos(np.pi * (80 - 5) / (hook["total_epochs"] - 5))) / 2
        assert (own.decay.final, own.warmup_epochs) == (pytest.approx(left, abs=1e-3), hook["warmup_epochs"])
    else:
        warmup, cosine = config["param_scheduler"][:2]
        assert own.warmup_epochs == (warmup["end"] if warmup["by_epoch"] else pytest.approx(1000 / 458, abs=0.01))
        assert own.decay.final * own.optimizer.lr == pytest.approx(cosine["eta_min"])
        for epoch in (cosine["begin"], 200, 250, cosine["end"], 299):
            share = min(1, (epoch - cosine["begin"]) / cosine["T_max"])
            theirs = cosine["eta_min"] + (optimizer["lr"] - cosine["eta_min"]) * (1 + np.cos(np.pi * share)) / 2
            # YOLOX's cosine begins after its warm-up and is as long as if it did not: a sixtieth longer than ours.
            assert learning_rate(own, epoch * 100, per_epoch=100) == pytest.approx(theirs, abs=0.016 * optimizer["lr"])


def configuration(path: str) -> Mapping[str, Any]:
    import mmyolo
    from mmengine.config import Config

    found: Mapping[str, Any] = Config.fromfile(str(Path(mmyolo.__file__).parent / ".mim" / "configs" / path))
    return found


# One iteration of each, on two images


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The folder of a data step for each task: two images for training, one to measure."""
    folders = {task: tmp_path_factory.mktemp(task) for task in ("classification", "segmentation", "detection")}
    for split, indices in {"train": range(2), "val": range(2, 4)}.items():
        for index in indices:
            pixels = np.random.default_rng(index).integers(0, 256, (40, 48, 3), dtype=np.uint8)
            labels = np.full((40, 48), index % 2, np.uint8)
            save(pixels, folders["classification"] / split / "ab"[index % 2] / f"{index}.png")
            save(pixels, folders["segmentation"] / "images" / split / f"{index}.png")
            save(labels, folders["segmentation"] / "labels" / split / f"{index}.png")
    from zoo.datasets import digit_scenes_detection

    digit_scenes_detection.generate(folders["detection"], train=2, val=2, size=SIZE)
    for task, layout in {"classification": "imagefolder", "segmentation": "label_pngs", "detection": "coco"}.items():
        count = 10 if task == "detection" else 2
        dataset = Dataset(
            description="test", task=task, layout=layout, generator="x", num_classes=count, corrupt="skip",
            labels=("a", "b") if task == "segmentation" else (), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4),
            licence="none",
        )  # fmt: skip
        summary = judging.summarise(task, dataset, folders[task], inside=True)
        atomic.write_json(folders[task] / SUMMARY, summary.model_dump(mode="json"))
    return folders


def save(pixels: "np.ndarray[Any, Any]", file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def preprocessing(size: int, geometry: str) -> Preprocessing:
    return Preprocessing.model_validate(
        {"geometry": geometry, "resize": size, "size": size, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    )


class Small(nn.Sequential):
    def __init__(self, *head: nn.Module) -> None:
        super().__init__(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(), *head)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen.append(tuple(inputs.shape)) if self.training else None
        found: Tensor = super().forward(inputs)
        return found


def classifier() -> Small:
    torch.manual_seed(0)
    return Small(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize("name", of("classification"))
def test_a_classifier_takes_a_step(pictures: Mapping[str, Path], tmp_path: Path, name: str) -> None:
    model, schedule = classifier(), miniature(name)
    before = [parameter.clone() for parameter in model.parameters()]
    given = preprocessing(32, "crop")
    data, teacher = pictures["classification"], classifier()
    classification.fit(model, data, given, schedule, name="x", folder=tmp_path, key="k" * 64, teacher=teacher)
    side = schedule.crop or 32
    assert (2, 3, side, side) in model.seen
    changed = zip(model.parameters(), before, strict=True)
    assert schedule.optimizer.lr > 0
    assert any(not torch.equal(after, weight) for after, weight in changed)


@pytest.mark.parametrize("name", of("segmentation"))
def test_a_segmenter_takes_a_step(pictures: Mapping[str, Path], tmp_path: Path, name: str) -> None:
    def segmenter() -> nn.Module:
        torch.manual_seed(0)
        return Small(nn.Conv2d(4, 2, 1), nn.Upsample(scale_factor=2))

    model, schedule = segmenter(), miniature(name)
    given = preprocessing(32, "letterbox")
    segmentation.fit(
        model, pictures["segmentation"], given, schedule, name="x", folder=tmp_path, key="k" * 64, teacher=segmenter()
    )
    side = schedule.crop or 32
    assert isinstance(model, Small)
    assert (2, 3, side, side) in model.seen
    before = dict(segmenter().named_parameters())
    assert any(not torch.equal(weight, before[key]) for key, weight in model.named_parameters())


@pytest.mark.parametrize("name", of("detection"))
def test_a_detector_takes_a_step(pictures: Mapping[str, Path], tmp_path: Path, name: str) -> None:
    if not all(find_spec(each) for each in ("mmyolo", "mmdet", "mmcv", "mmengine")):
        pytest.skip("mmyolo is an extra")
    from zoo.detection.images import DetectionSet
    from zoo.detection.objective import DetectionLoss, memory_format
    from zoo.detection.phases import Phases
    from zoo.layouts import coco
    from zoo.sources import mmyolo
    from zoo.training.images import training_loader
    from zoo.training.runner import train

    family = next((each for each in FAMILIES if each in name), "yolox")
    torch.manual_seed(0)
    model, schedule = mmyolo.build(FAMILIES[family], num_classes=10), miniature(name)
    given, data = preprocessing(SIZE, "letterbox"), pictures["detection"]
    from zoo.data.summary import read_summary

    images = DetectionSet(coco.images(data, read_summary(data), "train"), given, schedule.augmentation)
    before = {key: weight.clone() for key, weight in model.named_parameters()}
    train(
        model, DetectionLoss(given), training_loader(images, schedule.batch_size, 0), lambda model: 0.5, schedule,
        metric="map", name="x", folder=tmp_path, key="k" * 64, hooks=[Phases()], memory_format=memory_format(model),
    )  # fmt: skip
    assert any(not torch.equal(weight, before[key]) for key, weight in model.named_parameters())
    assert all(bool(weight.isfinite().all()) for weight in model.parameters())


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_a_crop_that_the_model_does_not_take_is_refused_before_the_training(
    pictures: Mapping[str, Path], tmp_path: Path, task: str
) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    module = {"classification": classification, "segmentation": segmentation}[task]
    given = preprocessing(32, "crop" if task == "classification" else "letterbox")
    schedule = miniature("classification_150", crop=24, distillation=None)
    with pytest.raises(StepError, match=r"does not take the schedule's crops of 24x24 \(mat1 .*; name another"):
        module.fit(model, pictures[task], given, schedule, name="x", folder=tmp_path, key="k" * 64)
    assert model.training
    assert not [*tmp_path.iterdir()]
