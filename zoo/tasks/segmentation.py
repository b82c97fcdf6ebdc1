"""Semantic segmentation: a class for every pixel, images with label maps on disk, mean intersection over union."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from zoo import layouts
from zoo.config import Preprocessing
from zoo.data.summary import read_summary
from zoo.errors import DatasetError
from zoo.origin import Origin
from zoo.predicting.predictions import ClassMask
from zoo.preprocess import Transform, normalised
from zoo.recipe import Export
from zoo.schedule import Schedule
from zoo.segmentation.deployed import PixelClasses, Segmenter, without_auxiliary
from zoo.segmentation.loss import SegmentationLoss, outputs_of
from zoo.segmentation.metric import class_iou, confusion, mean_iou, pixel_accuracy
from zoo.segmentation.placing import taken_back
from zoo.segmentation.samples import LabelledSet
from zoo.training import devices, statistics
from zoo.training.crops import cropped_input, require_crop
from zoo.training.images import batches, training_loader
from zoo.training.inputs import drawn, spaced
from zoo.training.stages import taught_stages

if TYPE_CHECKING:
    import onnx
    from mmengine.hooks import Hook
    from PIL import Image

    from zoo.training.runner import Trained

METRIC = "miou"
GEOMETRY: Literal["crop", "letterbox"] = "letterbox"
RETURNS = (
    "The model returns the logits of each class for each pixel: (N, classes, size, size). The ONNX file returns the "
    "same as `logits`, or as `classes` (N, size, size) each pixel's class where the recipe's export says argmax."
)
STATISTICS_BATCHES = 32  # of training images, that BatchNorm's statistics are measured on
BATCH_PIXELS = 2**19  # of inputs that are evaluated at once: 56 of 96 pixels a side, 2 of 512


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
    """Mean intersection over union and pixel accuracy over all validation images, from one confusion matrix.

    Measured at the resolution of the model's input, label maps brought there by nearest neighbour, as torchvision's
    reference measures the published weights; pixels labelled 255 and the letterbox's border do not count. ``miou`` is
    the mean over the classes that occur, in truth or prediction; ``iou/<label>`` is each one's own.

    Raises DatasetError where no pixel counts.
    """
    summary = read_summary(data)
    matrix = _confusion(model, _images(data, "val", preprocessing), preprocessing)
    if not matrix.sum():
        raise DatasetError(f"{data}: no pixel of the validation images is labelled; correct the label maps")
    each = zip(summary.labels, class_iou(matrix).tolist(), strict=True)
    return {
        METRIC: mean_iou(matrix),
        "pixel_accuracy": pixel_accuracy(matrix),
        "images": summary.counts["val"],
        "dataset": summary.name,
        "dataset_digest": summary.digest,
    } | {f"iou/{label}": iou for label, iou in each if iou == iou}


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
    """Train ``model`` in place as the schedule says, the teacher's logits beside the labels where there is one.

    BatchNorm's statistics are then measured anew, as they are before each evaluation on the way. The arguments from
    ``name`` on, and the errors, are those of zoo.training.runner.train.
    """
    from zoo.training.runner import train  # mmengine and TensorBoard take seconds to import, and only this needs them

    require_crop(model, schedule)
    training = _images(data, "train", preprocessing, schedule)
    validation = _images(data, "val", preprocessing)
    taught = None if teacher is None else _frozen(teacher)
    stages = taught_stages(schedule.distillation, taught, model, preprocessing.size, name)
    objective = SegmentationLoss(preprocessing, schedule.label_smoothing, schedule.distillation, taught, stages)

    def settle(student: nn.Module) -> None:
        measured_on = calibration_batches(data, preprocessing, schedule.batch_size, STATISTICS_BATCHES, schedule.seed)
        statistics.settle(student, schedule, measured_on)

    def miou(student: nn.Module) -> float:
        settled = copy.deepcopy(student)
        settle(settled)
        return mean_iou(_confusion(settled, validation, preprocessing))

    loader = training_loader(training, schedule.batch_size, schedule.workers)
    trained = train(
        model, objective, loader, miou, schedule, metric=METRIC, name=name, folder=folder, key=key, hooks=hooks
    )
    if devices.is_first():  # the others' models are thrown away
        settle(model)
    return replace(trained, stages=stages)


def host_boundary(model: nn.Module, exported: "onnx.ModelProto") -> frozenset[str]:
    """None: a device runs the whole model."""
    return frozenset()


def outputs(export: Export) -> tuple[str, ...]:
    """The logits (N, num_classes, size, size), or with ``export.argmax`` each pixel's class (N, size, size)."""
    return ("classes",) if export.argmax else ("logits",)


def deployable(model: nn.Module, origin: Origin, export: Export) -> nn.Module:
    """The model without its auxiliary head, to the one tensor that `outputs` names."""
    slim = without_auxiliary(model)
    return (PixelClasses(slim) if export.argmax else Segmenter(slim)).eval()


def descriptions(model: nn.Module, origin: Origin, export: Export, exported: "onnx.ModelProto") -> Mapping[str, str]:
    """None: the labels are in the ONNX file's own metadata."""
    return {}


def loadable(model: nn.Module, origin: Origin) -> nn.Module:
    """Model inputs (N, 3, size, size) to logits (N, num_classes, size, size)."""
    return Segmenter(model).eval()


def predicted(image: "Image.Image", model: nn.Module, origin: Origin) -> ClassMask:
    """The best class of each pixel, at the image's own resolution."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        logits, _ = outputs_of(model(Transform(origin.preprocessing)(image)[None].to(device)))
    found = logits[0].argmax(0).to(torch.uint8).cpu().numpy()
    return ClassMask(taken_back(found, *image.size, origin.preprocessing), origin.labels)


def _images(data: Path, split: str, preprocessing: Preprocessing, schedule: Schedule | None = None) -> LabelledSet:
    summary = read_summary(data)
    images = layouts.find(summary.layout).images(data, summary, split)
    if schedule is None:
        return LabelledSet(images, summary.num_classes, preprocessing)
    cropped = cropped_input(preprocessing, schedule)
    return LabelledSet(images, summary.num_classes, cropped, schedule.augmentation, schedule.seed)


def _confusion(model: nn.Module, images: LabelledSet, preprocessing: Preprocessing) -> Tensor:
    """Over all images, on the device where the model is; it answers in eval mode and keeps its mode."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    matrix = torch.zeros(images.num_classes, images.num_classes, dtype=torch.int64)
    with torch.inference_mode():
        for pixels, labels in batches(images, max(1, BATCH_PIXELS // preprocessing.size**2)):
            logits, _ = outputs_of(model(normalised(pixels.to(device), preprocessing)))
            matrix += confusion(labels.to(device), logits.argmax(1), images.num_classes).cpu()
    model.train(was_training)
    return matrix


def _frozen(teacher: nn.Module) -> nn.Module:
    from zoo.training.learner import accelerator

    return (
        without_auxiliary(teacher).to(memory_format=torch.channels_last).to(accelerator()).eval().requires_grad_(False)
    )
