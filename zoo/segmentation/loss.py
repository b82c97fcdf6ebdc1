"""What a segmenter learns by."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import Preprocessing
from zoo.data.label_maps import IGNORED
from zoo.preprocess import normalised
from zoo.schedule import Distillation
from zoo.training.features import feature_distance, recorded

AUXILIARY_WEIGHT = 0.5  # of the auxiliary head's loss, as torchvision's published segmenters were trained


def outputs_of(output: Any) -> tuple[Tensor, Tensor | None]:
    """The logits (N, C, H, W) in what a segmenter returns, and its auxiliary head's where it has one."""
    if isinstance(output, Tensor):
        return output, None
    assert isinstance(output, Mapping)
    return output["out"], output.get("aux")


@dataclass(frozen=True, eq=False)
class SegmentationLoss:
    """Cross-entropy with label smoothing of every pixel and, with a teacher, the distance to its softened answer.

    (1 - w) (CE + 0.5 CE of the auxiliary head) + w T^2 KL(teacher || student), both softmaxes at temperature T (Hinton
    et al. 2015, section 2; of each pixel, as Liu et al. 2019). Each term is the mean over the pixels that
    count: those labelled 255 are left out of all, and a batch of nothing else has the loss 0. The `feature_distance`
    of the stages, if any, is added, times its own weight; all pixels count in it.
    """

    preprocessing: Preprocessing
    label_smoothing: float
    distillation: Distillation | None = None
    teacher: nn.Module | None = None
    stages: tuple[str, ...] = ()  # modules whose features the teacher's are a model for

    def __call__(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The loss of pixels (N, 3, size, size) and classes (N, size, size), both uint8."""
        inputs, labels = normalised(batch[0], self.preprocessing), batch[1].long()
        with recorded(model, self.stages) as given:
            logits, auxiliary = outputs_of(model(inputs))
        count = (labels != IGNORED).sum().clamp_min(1)
        loss = self._against_labels(logits, labels, count)
        if auxiliary is not None:
            loss = loss + AUXILIARY_WEIGHT * self._against_labels(auxiliary, labels, count)
        if self.teacher is None or self.distillation is None:
            return loss
        with torch.no_grad(), recorded(self.teacher, self.stages) as taught:
            answer, _ = outputs_of(self.teacher(inputs))
        weight, temperature = self.distillation.weight, self.distillation.temperature
        distance = F.kl_div(
            F.log_softmax(logits / temperature, 1),
            F.log_softmax(answer / temperature, 1),
            reduction="none",
            log_target=True,
        ).sum(1)
        distance = distance.masked_fill(labels == IGNORED, 0).sum() / count
        loss = (1 - weight) * loss + weight * temperature**2 * distance
        return loss + self.distillation.features * feature_distance(given, taught) if self.stages else loss

    def __deepcopy__(self, memo: dict[int, Any]) -> "SegmentationLoss":
        return self  # it never changes: the moving average need not copy the teacher

    def _against_labels(self, logits: Tensor, labels: Tensor, count: Tensor) -> Tensor:
        smoothing = self.label_smoothing
        total = F.cross_entropy(logits, labels, ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum")
        return total / count
