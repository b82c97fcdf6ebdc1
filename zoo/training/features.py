"""What a model learns of its teacher's features: those that its stages end with."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from zoo.training import devices

EPSILON = 1e-6  # of a variance: features that are all alike teach nothing, and divide by nothing


@contextmanager
def recorded(model: nn.Module, stages: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """What the modules of these names return while this lasts.

    Nothing is left on the model: a copy made between two forward passes has no hooks, nor has what is saved.
    """
    found: dict[str, Tensor] = {}
    handles = []
    for stage in stages:

        def keep(_: nn.Module, _inputs: object, output: Tensor, stage: str = stage) -> None:
            found[stage] = output.clone()  # an activation behind it may work in place

        handles.append(model.get_submodule(stage).register_forward_hook(keep))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def feature_distance(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
    """Mean over the stages of mean((student - teacher)^2) / var(teacher), over all elements of a stage's features.

    The squared distance of Romero et al. 2015 (FitNets, eq. 3), here without a regressor since shapes agree, in units
    of the teacher's variance: 1 is as far as the teacher's mean is, and stages count alike whatever their scale. The
    variance is that over all devices, so that the mean of their distances is the distance of the whole batch. Computed
    in float32.
    """
    distances = []
    for stage, taught in teacher.items():
        wanted = taught.float()
        distances.append((student[stage].float() - wanted).square().mean() / (_variance(wanted) + EPSILON))
    return torch.stack(distances).mean()


def _variance(features: Tensor) -> Tensor:
    centred = features - devices.mean(features.mean())
    return devices.mean(centred.square().mean())
