"""Object detection: boxes with a class each, COCO's JSON on disk, COCO's mean average precision."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from zoo import layouts
from zoo.config import Preprocessing
from zoo.data.summary import read_summary
from zoo.detection.decoding import Decoded
from zoo.detection.deploying import RETURNS, deployable, descriptions, host_boundary, loadable, outputs, predicted
from zoo.detection.evaluation import average_precision
from zoo.detection.images import DetectionSet
from zoo.detection.objective import DetectionLoss, memory_format
from zoo.detection.placing import into_image
from zoo.detection.suppression import Detections, detections
from zoo.preprocess import normalised, placement
from zoo.schedule import Schedule
from zoo.training import devices, statistics
from zoo.training.images import batches, training_loader
from zoo.training.inputs import drawn, spaced
from zoo.training.stages import taught_stages

if TYPE_CHECKING:
    from mmengine.hooks import Hook

    from zoo.training.runner import Trained

__all__ = [
    "GEOMETRY",
    "METRIC",
    "RETURNS",
    "calibration_batches",
    "deployable",
    "descriptions",
    "evaluate",
    "fit",
    "host_boundary",
    "loadable",
    "outputs",
    "predicted",
    "validation_sample",
]

METRIC = "map"
GEOMETRY: Literal["crop", "letterbox"] = "letterbox"
STATISTICS_BATCHES = 16  # of training images, that BatchNorm's statistics are measured on
BATCH_PIXELS = 2**20  # of inputs that are evaluated at once: 28 of 192 pixels a side, 2 of 640


def calibration_batches(
    data: Path, preprocessing: Preprocessing, batch_size: int, count: int, seed: int
) -> Iterator[Tensor]:
    """At most ``count`` model inputs (batch_size, 3, size, size): training images drawn by seed, not augmented."""
    yield from drawn(_images(data, "train", preprocessing), preprocessing, batch_size, count, seed)


def validation_sample(data: Path, preprocessing: Preprocessing, count: int) -> Tensor:
    """At most ``count`` model inputs (N, 3, size, size), evenly spaced over the validation images.

    Raises DatasetError where there is none.
    """
    return spaced(_images(data, "val", preprocessing), preprocessing, count, data)


def evaluate(model: nn.Module, data: Path, preprocessing: Preprocessing) -> dict[str, Any]:
    """COCO's mean average precision on all validation images, with their number and the digest of the data.

    ``map`` is over overlaps from 0.5 to 0.95, ``map_50`` and ``map_75`` at one. Boxes are those that suppression with
    zoo.detection.suppression.EVALUATION leaves, in the pixels of each image as it is on disk.
    """
    summary = read_summary(data)
    figures = _figures(model, _images(data, "val", preprocessing), summary.labels)
    return figures | {
        "images": summary.counts["val"],
        "dataset": summary.name,
        "dataset_digest": summary.digest,
    }


def fit(
    model: nn.Module,
    data: Path,
    preprocessing: Preprocessing,
    schedule: Schedule,
    *,
    name: str,
    folder: Path,
    key: str,
    teacher: nn.Module | None = None,
    hooks: "Sequence[Hook]" = (),
) -> "Trained":
    """Train ``model`` in place as the schedule says, by its own loss and towards the neck of a teacher, if any.

    BatchNorm's statistics are then measured anew, as they are before each evaluation on the way. ``label_smoothing``
    is not used: targets are the detector's own. The arguments from ``name`` on, and the errors, are those of
    zoo.training.runner.train.
    """
    # mmengine and TensorBoard take seconds to import, and only this needs them.
    from zoo.detection.phases import Phases
    from zoo.training.runner import train

    training = _images(data, "train", preprocessing, schedule)
    validation = _images(data, "val", preprocessing)
    labels = read_summary(data).labels
    layout = memory_format(model)
    taught = None if teacher is None else _frozen(teacher, layout)
    stages = taught_stages(schedule.distillation, taught, model, preprocessing.size, name)

    def settle(student: nn.Module) -> None:
        measured_on = calibration_batches(data, preprocessing, schedule.batch_size, STATISTICS_BATCHES, schedule.seed)
        statistics.settle(student, schedule, measured_on)

    def mean_average_precision(student: nn.Module) -> float:
        settled = copy.deepcopy(student)
        settle(settled)
        return _figures(settled, validation, labels)[METRIC]

    trained = train(
        model,
        DetectionLoss(preprocessing, schedule.distillation, taught, stages),
        training_loader(training, schedule.batch_size, schedule.workers),
        mean_average_precision,
        schedule,
        metric=METRIC,
        name=name,
        folder=folder,
        key=key,
        hooks=[Phases(), *hooks],
        memory_format=layout,
        compiled="backbone",  # the neck's features are read, and the head's loss is not its forward
    )
    if devices.is_first():  # the others' models are thrown away
        settle(model)
    return replace(trained, stages=stages)


def _images(data: Path, split: str, preprocessing: Preprocessing, schedule: Schedule | None = None) -> DetectionSet:
    summary = read_summary(data)
    images = layouts.find(summary.layout).images(data, summary, split)
    if schedule is None:
        return DetectionSet(images, preprocessing)
    return DetectionSet(images, preprocessing, schedule.augmentation, schedule.seed)


def _figures(model: nn.Module, images: DetectionSet, labels: tuple[str, ...]) -> dict[str, float]:
    return average_precision(list(_found(model, images)), images.images, labels)


def _found(model: nn.Module, images: DetectionSet) -> Iterator[Detections]:
    """What the model finds in each image, in the pixels of that, on the CPU.

    It answers in eval mode, on the device where its weights are, and keeps its mode.
    """
    device = next(model.parameters()).device
    was_training = model.training
    decoded = Decoded(model.eval(), images.preprocessing.size)
    sizes = iter(images.images.sizes)
    with torch.inference_mode():
        for pixels, _ in batches(images, max(1, BATCH_PIXELS // images.preprocessing.size**2)):
            boxes, scores = decoded(normalised(pixels.to(device), images.preprocessing))
            for each in detections(boxes.cpu(), scores.cpu()):
                width, height = next(sizes)
                placed = placement(width, height, images.preprocessing)
                yield Detections(into_image(each.boxes, placed, width, height), each.scores, each.labels)
    model.train(was_training)


def _frozen(teacher: nn.Module, layout: torch.memory_format) -> nn.Module:
    from zoo.training.learner import accelerator

    return teacher.to(memory_format=layout).to(accelerator()).eval().requires_grad_(False)
