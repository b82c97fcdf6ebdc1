"""A detector's own loss, and beside it, with a teacher, the distance between what their necks give."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import Preprocessing
from zoo.preprocess import normalised
from zoo.schedule import Distillation
from zoo.training import devices, features

# Heads whose losses are multiplied by the number of images; the others' are means over what is assigned.
TIMES_IMAGES = {"YOLOv5Head", "YOLOv7Head", "YOLOv8Head"}
TIMES_DEVICES = TIMES_IMAGES | {"YOLOv6Head"}  # and by the number of processes, over which gradients are averaged
EPSILON = 1e-6


@dataclass(frozen=True, eq=False)
class DetectionLoss:
    """The sum of the terms of the detector's loss, whatever the number of images, and w times `feature_distance`; with
    stages of the backbone, their own distance too.

    The terms are of very different size from family to family: a learning rate for SGD is one family's, while AdamW's
    suits all. YOLOv5's and v7's weight of objectness is for inputs of 640 pixels, as in their configs.
    """

    preprocessing: Preprocessing
    distillation: Distillation | None = None
    teacher: nn.Module | None = None
    stages: tuple[str, ...] = ()  # modules whose features the teacher's are a model for

    def __call__(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs = normalised(batch[0], self.preprocessing)
        if self.teacher is None or self.distillation is None:
            return own_loss(model, inputs, batch[1])
        with recorded(model.get_submodule("neck")) as given, features.recorded(model, self.stages) as own:
            loss = own_loss(model, inputs, batch[1])
        neck = self.teacher.get_submodule("neck")
        with torch.no_grad(), recorded(neck) as taught, features.recorded(self.teacher, self.stages) as others:
            self.teacher(inputs)
        loss = loss + self.distillation.weight * feature_distance(given, taught)
        return loss + self.distillation.features * features.feature_distance(own, others) if self.stages else loss

    def __deepcopy__(self, memo: dict[int, Any]) -> "DetectionLoss":
        return self  # it never changes: the moving average need not copy the teacher


def own_loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """What the detector's library computes from inputs (N, 3, H, W) and targets (N, K, 5) of zoo.detection.images."""
    rows = targets.new_zeros(*targets.shape[:2], 1) + torch.arange(len(targets), device=targets.device)[:, None, None]
    labelled = torch.cat([rows, targets], 2)[targets[..., 0] >= 0]  # image, class, x1, y1, x2, y2
    samples = {"bboxes_labels": labelled, "img_metas": [{"batch_input_shape": tuple(inputs.shape[2:])}] * len(inputs)}
    terms: dict[str, Tensor] = model.loss(inputs, samples)  # type: ignore[operator]
    loss = torch.stack([term.sum() for term in terms.values()]).sum()
    head = type(model.bbox_head).__name__
    return loss / ((len(inputs) if head in TIMES_IMAGES else 1) * (devices.count() if head in TIMES_DEVICES else 1))


def feature_distance(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    """Mean squared distance of features (N, C, H, W), each channel to mean 0 and deviation 1 over the batch, averaged
    over the levels: 1 less their correlation, twice, so that it does not depend on their scale (Cao et al. 2022).

    Levels of another shape than the teacher's are left out.
    """
    pairs = [(own, other) for own, other in zip(student, teacher, strict=False) if own.shape == other.shape]
    distances = [F.mse_loss(_standardised(own), _standardised(other)) for own, other in pairs]
    return torch.stack(distances).mean() if distances else student[0].new_zeros(())


@contextmanager
def recorded(module: nn.Module) -> Iterator[list[Tensor]]:
    """The tensors that the module returns while this lasts."""
    found: list[Tensor] = []

    def keep(_module: object, _inputs: object, output: Any) -> None:
        found.extend(level.clone() for level in output)  # an activation behind it may work in place

    handle = module.register_forward_hook(keep)
    try:
        yield found
    finally:
        handle.remove()


def memory_format(model: nn.Module) -> torch.memory_format:
    """Of weights and inputs in training: channels last, which is a tenth faster on a CPU, where that works.

    PyTorch 2.14 crashes there in the backward pass of a 1x1 convolution of the image with a stride: one branch of a
    re-parameterisable stem, as YOLOv6 has it.
    """
    for part in model.modules():
        if (
            isinstance(part, nn.Conv2d)
            and part.in_channels == 3
            and part.kernel_size == (1, 1)
            and part.stride > (1, 1)
        ):
            return torch.contiguous_format
    return torch.channels_last


def _standardised(features: Tensor) -> Tensor:
    deviation, mean = torch.std_mean(features, (0, 2, 3), correction=0, keepdim=True)
    return (features - mean) / (deviation + EPSILON)
