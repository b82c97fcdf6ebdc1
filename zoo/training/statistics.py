"""The mean and variance of a trained model's BatchNorms: measured anew, or as training left their running averages."""

from collections.abc import Iterable

from torch import Tensor, nn

import surgery
from zoo.schedule import Schedule


def settle(model: nn.Module, schedule: Schedule, batches: Iterable[Tensor]) -> None:
    """Measure them in place on ``batches`` of model inputs, unless the schedule keeps the running averages.

    These lag behind the weights of a short training, most of all with torchvision's momentum of 0.01 for MobileNetV3.
    """
    if schedule.statistics == "measured":
        device = next(model.parameters()).device
        surgery.reestimate_batchnorm(model, (batch.to(device) for batch in batches))
