"""Image classification: one class per image, an ImageFolder on disk, top-1 and top-5 accuracy."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo import layouts
from zoo.config import Preprocessing
from zoo.data.summary import read_summary
from zoo.origin import Origin
from zoo.predicting.predictions import ClassScores
from zoo.preprocess import Transform, normalised
from zoo.recipe import Export
from zoo.schedule import Distillation, Schedule
from zoo.training import devices, statistics
from zoo.training.crops import cropped_input, require_crop
from zoo.training.features import feature_distance, recorded
from zoo.training.images import ImageSet, batches, training_loader
from zoo.training.inputs import drawn, spaced
from zoo.training.mixing import mixed
from zoo.training.policies import altered
from zoo.training.stages import taught_stages

if TYPE_CHECKING:
    import onnx
    from mmengine.hooks import Hook
    from PIL import Image

    from zoo.training.runner import Trained

METRIC = "top1"
GEOMETRY: Literal["crop", "letterbox"] = "crop"
RETURNS = "The model and the ONNX file return one score for each class, before softmax: (N, classes)."
AUXILIARY_WEIGHT = 0.4  # of an auxiliary classifier's loss (Szegedy et al. 2016)
STATISTICS_BATCHES = 32  # of training images, that BatchNorm's statistics are measured on


def calibration_batches(
    data: Path, preprocessing: Preprocessing, batch_size: int, count: int, seed: int
) -> Iterator[Tensor]:
    """At most ``count`` model inputs (batch_size, 3, size, size): training images drawn by seed, not augmented."""
    yield from drawn(_images(data, "train", preprocessing), preprocessing, batch_size, count, seed)


def validation_batches(
    data: Path, preprocessing: Preprocessing, batch_size: int = 64
) -> Iterator[tuple[Tensor, Tensor]]:
    """Every validation image once, in order: model inputs (N, 3, size, size), classes (N,)."""
    yield from _inputs(_images(data, "val", preprocessing), preprocessing, batch_size)


def validation_sample(data: Path, preprocessing: Preprocessing, count: int) -> Tensor:
    """At most ``count`` model inputs (N, 3, size, size), evenly spaced over the validation images and so over classes.

    Raises DatasetError where there is none.
    """
    return spaced(_images(data, "val", preprocessing), preprocessing, count, data)


def evaluate(model: nn.Module, data: Path, preprocessing: Preprocessing) -> dict[str, Any]:
    """Accuracy on the validation images, with the number of images and the digest of the data it was measured on.

    ``top1`` and ``top5`` are fractions; there is no ``top5`` with five classes or fewer.
    """
    summary = read_summary(data)
    right1, right5, count = _right(model, _images(data, "val", preprocessing), preprocessing)
    metrics: dict[str, Any] = {
        "top1": right1 / count,
        "images": count,
        "dataset": summary.name,
        "dataset_digest": summary.digest,
    }
    return metrics | ({"top5": right5 / count} if summary.num_classes > 5 else {})


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

    BatchNorm's statistics are then measured anew, as they are before each evaluation on the way: running averages lag
    behind the weights of a short training, most of all with torchvision's momentum of 0.01 for MobileNetV3. The
    arguments from ``name`` on, and the errors, are those of zoo.training.runner.train.
    """
    from zoo.training.runner import train  # mmengine and TensorBoard take seconds to import, and only this needs them

    require_crop(model, schedule)
    training = altered(_images(data, "train", preprocessing, schedule), schedule, preprocessing)
    training = mixed(training, schedule, read_summary(data).num_classes)
    validation = _images(data, "val", preprocessing)
    taught = None if teacher is None else _frozen(teacher)
    stages = taught_stages(schedule.distillation, taught, model, preprocessing.size, name)
    objective = ClassificationLoss(preprocessing, schedule.label_smoothing, schedule.distillation, taught, stages)

    def settle(student: nn.Module) -> None:
        measured_on = calibration_batches(data, preprocessing, schedule.batch_size, STATISTICS_BATCHES, schedule.seed)
        statistics.settle(student, schedule, measured_on)

    def top1(student: nn.Module) -> float:
        settled = copy.deepcopy(student)
        settle(settled)
        right, _, count = _right(settled, validation, preprocessing)
        return right / count

    loader = training_loader(training, schedule.batch_size, schedule.workers)
    trained = train(
        model, objective, loader, top1, schedule, metric=METRIC, name=name, folder=folder, key=key, hooks=hooks
    )
    if devices.is_first():  # the others' models are thrown away
        settle(model)
    return replace(trained, stages=stages)


def host_boundary(model: nn.Module, exported: "onnx.ModelProto") -> frozenset[str]:
    """None: a device runs the whole model."""
    return frozenset()


def outputs(export: Export) -> tuple[str, ...]:
    """The logits (N, num_classes)."""
    return ("output",)


def deployable(model: nn.Module, origin: Origin, export: Export) -> nn.Module:
    """The model itself."""
    return model.eval()


def descriptions(model: nn.Module, origin: Origin, export: Export, exported: "onnx.ModelProto") -> Mapping[str, str]:
    """None: the labels are in the ONNX file's own metadata."""
    return {}


def loadable(model: nn.Module, origin: Origin) -> nn.Module:
    """The model itself: images (N, 3, size, size) to logits (N, num_classes)."""
    return model.eval()


def predicted(image: "Image.Image", model: nn.Module, origin: Origin) -> ClassScores:
    """The softmax of the logits."""
    inputs = Transform(origin.preprocessing)(image)[None]
    with torch.inference_mode():
        scores = model(inputs.to(next(model.parameters()).device)).softmax(1)[0]
    return ClassScores(scores.cpu().numpy(), origin.labels)


@dataclass(frozen=True, eq=False)
class ClassificationLoss:
    """Cross-entropy with label smoothing and, with a teacher, the distance to its softened answer.

    (1 - w) CE + w T^2 KL(teacher || student), both softmaxes at temperature T (Hinton et al. 2015, section 2), and
    the `feature_distance` of the stages, if any, times its own weight.
    """

    preprocessing: Preprocessing
    label_smoothing: float
    distillation: Distillation | None = None
    teacher: nn.Module | None = None
    stages: tuple[str, ...] = ()  # modules whose features the teacher's are a model for

    def __call__(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs = normalised(batch[0], self.preprocessing)
        with recorded(model, self.stages) as given:
            logits, auxiliary = _outputs(model(inputs))
        loss = self._against_labels(logits, batch[1])
        for each in auxiliary:
            loss = loss + AUXILIARY_WEIGHT * self._against_labels(each, batch[1])
        if self.teacher is None or self.distillation is None:
            return loss.mean()
        with torch.no_grad(), recorded(self.teacher, self.stages) as taught:
            answer, _ = _outputs(self.teacher(inputs))
        weight: float | Tensor = self.distillation.weight
        temperature = self.distillation.temperature
        distances = F.kl_div(
            F.log_softmax(logits / temperature, 1),
            F.log_softmax(answer / temperature, 1),
            reduction="none",
            log_target=True,
        ).sum(1)
        if self.distillation.by_confidence:
            weight = weight * _confidence(answer, batch[1])
        loss = ((1 - weight) * loss + weight * temperature**2 * distances).mean()
        return loss + self.distillation.features * feature_distance(given, taught) if self.stages else loss

    def __deepcopy__(self, memo: dict[int, Any]) -> "ClassificationLoss":
        return self  # it never changes: the moving average need not copy the teacher

    def _against_labels(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of each image (N,), by classes (N,), or by the shares of each (N, classes) where images are mixed."""
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing, reduction="none")


def _confidence(logits: Tensor, labels: Tensor) -> Tensor:
    """How probable the logits (N, classes) find each image's class, or its classes by their shares: (N,)."""
    shares = F.one_hot(labels, logits.shape[1]) if labels.ndim == 1 else labels
    return (logits.softmax(1) * shares).sum(1)


def _images(data: Path, split: str, preprocessing: Preprocessing, schedule: Schedule | None = None) -> ImageSet:
    summary = read_summary(data)
    images = layouts.find(summary.layout).images(data, summary, split)
    if schedule is None:
        return ImageSet(images, preprocessing)
    return ImageSet(images, cropped_input(preprocessing, schedule), schedule.augmentation, schedule.seed)


def _inputs(images: ImageSet, preprocessing: Preprocessing, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    for pixels, labels in batches(images, batch_size):
        yield normalised(pixels, preprocessing), labels


def _right(model: nn.Module, images: ImageSet, preprocessing: Preprocessing) -> tuple[int, int, int]:
    """Of how many images the class is the first answer, is among the first five, and how many there are.

    The model answers in eval mode, on the device where its weights are, and keeps its mode.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    right1 = right5 = count = 0
    with torch.inference_mode():
        for inputs, labels in _inputs(images, preprocessing, batch_size=64):
            logits, _ = _outputs(model(inputs.to(device)))
            hits = logits.topk(min(5, logits.shape[1])).indices.cpu() == labels[:, None]
            right1 += int(hits[:, 0].sum())
            right5 += int(hits.any(1).sum())
            count += len(labels)
    model.train(was_training)
    return right1, right5, count


def _frozen(teacher: nn.Module) -> nn.Module:
    from zoo.training.learner import accelerator

    return teacher.to(memory_format=torch.channels_last).to(accelerator()).eval().requires_grad_(False)


def _outputs(output: Any) -> tuple[Tensor, list[Tensor]]:
    """The logits, and those of auxiliary classifiers where the model returns a tuple in training."""
    if isinstance(output, Tensor):
        return output, []
    logits, *auxiliary = output
    return logits, [each for each in auxiliary if each is not None]
