"""BatchNorm over the images of all devices, for whatever layer computes it.

Layers are not replaced, as torch.nn.SyncBatchNorm would: libraries have BatchNorms of their own, with an activation
inside. What they call is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn.modules._functions import SyncBatchNorm
from torch.overrides import TorchFunctionMode

from zoo.training import devices


class SharedStatistics(TorchFunctionMode):
    """While this lasts, torch.nn.functional.batch_norm in training takes mean and variance over all processes."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if func is not F.batch_norm or not given.get("training"):
            return func(*args, **given)
        features, running_mean, running_var = args[:3]
        shared = _by_library if features.is_cuda else batch_norm
        return shared(
            features, running_mean, running_var, given["weight"], given["bias"], given["momentum"], given["eps"]
        )


def batch_norm(
    features: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """Features (N, C, ...) of this process normalised by mean and variance over those of all processes (Ioffe and
    Szegedy 2015), on any device. The running averages, where there are any, go on as one process's would."""
    over = [axis for axis in range(features.ndim) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(features.ndim)]
    exact = features if features.dtype == torch.float64 else features.float()
    own = exact.new_tensor([exact.numel() / exact.shape[1]])
    sums = _summed(torch.cat([exact.sum(over), own]))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centred = exact - mean.view(shape)
    variance = _summed((centred * centred).sum(over)) / count
    with torch.no_grad():
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * count / (count - 1)).to(running_var.dtype), momentum)
    scale = (variance + eps).rsqrt() if weight is None else (variance + eps).rsqrt() * weight
    normalised = centred * scale.view(shape)
    shifted = normalised if bias is None else normalised + bias.view(shape)
    given: Tensor = shifted.to(features.dtype)
    return given


def _by_library(
    features: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """The same by the kernels of torch.nn.SyncBatchNorm, which are for GPUs alone."""
    group = dist.group.WORLD
    normalised: Tensor = SyncBatchNorm.apply(
        features, weight, bias, running_mean, running_var, eps, momentum, group, devices.count()
    )
    return normalised


def _summed(own: Tensor) -> Tensor:
    total: Tensor = _Summed.apply(own)
    return total


class _Summed(torch.autograd.Function):
    """The sum of a tensor over the processes. Each one's loss depends on it, so that their gradients are summed too."""

    @staticmethod
    def forward(ctx: FunctionCtx, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total
