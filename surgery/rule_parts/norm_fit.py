"""The batch normalization that comes closest to another normalization, measured on what that layer receives."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from surgery.observing.evidence import Evidence
from surgery.observing.observe import tensors
from surgery.operating.example import call_with
from surgery.operating.modes import restored_modes
from surgery.operating.undo import preserved
from surgery.rule_parts.channel_norm import ChannelBatchNorm
from surgery.rule_parts.norm_axis import without_children

# With fewer values per channel than this, a line through each channel's values would follow chance.
ENOUGH = 32
AT_ONCE = 2**17  # values that are summed as doubles: what stays in a core's cache takes a third of the time


@dataclass
class Moments:
    """Sums over all values of each channel, (C,) in double precision: of what a layer gets (x) and gives (y)."""

    count: int
    x: Tensor
    xx: Tensor
    y: Tensor
    xy: Tensor

    @classmethod
    def of(cls, inputs: Tensor, outputs: Tensor, axis: int) -> "Moments":
        """Sums over one batch."""
        x, y = (t.detach().movedim(axis, -1).flatten(0, -2) for t in (inputs, outputs))
        rows = max(1, AT_ONCE // x.shape[1])
        sums = [
            _sums(*(part.double() for part in parts))
            for parts in zip(torch.split(x, rows), torch.split(y, rows), strict=True)
        ]
        return cls(len(x), *torch.stack(sums).sum(0))

    def __add__(self, other: "Moments") -> "Moments":
        sums = (getattr(self, name) + getattr(other, name) for name in ("x", "xx", "y", "xy"))
        return Moments(self.count + other.count, *sums)


def _sums(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([x.sum(0), torch.linalg.vecdot(x, x, dim=0), y.sum(0), torch.linalg.vecdot(x, y, dim=0)])


def measure(evidence: Evidence, axes: Mapping[str, int]) -> Mapping[str, Moments]:
    """Of the layers named in ``axes`` (axis of their channels), over calibration data or else the example inputs."""
    found: dict[str, Moments] = {}
    if evidence.calibration is not None:
        _over_batches(evidence.model, axes, evidence.calibration, found)
    elif evidence.example is not None:
        for name, axis in axes.items():
            if evidence.run(name) is not None:
                given = evidence.received(name)
                _add(found, name, evidence.model.get_submodule(name), [given.args, given.kwargs], axis)
    return found


def _over_batches(
    model: nn.Module, axes: Mapping[str, int], batches: Iterable[Tensor], found: dict[str, Moments]
) -> None:
    handles = []
    for name, axis in axes.items():

        def note(module: nn.Module, args: Any, kwargs: Any, name: str = name, axis: int = axis) -> None:
            _add(found, name, module, [args, kwargs], axis)

        handles.append(model.get_submodule(name).register_forward_pre_hook(note, with_kwargs=True))
    try:
        with preserved(model), restored_modes(model), torch.no_grad():
            model.eval()
            for batch in batches:
                call_with(model, batch)
    finally:
        for handle in handles:
            handle.remove()


def _add(found: dict[str, Moments], name: str, module: nn.Module, given: Any, axis: int) -> None:
    x = tensors(given)[0]
    with torch.no_grad():
        batch = Moments.of(x, without_children(module).eval().forward(x), axis)
    found[name] = found[name] + batch if name in found else batch


def fit(layer: ChannelBatchNorm, seen: Moments, affine: bool = True) -> None:
    """Set statistics and affine values of ``layer`` so that in eval mode it comes closest, in least squares, to y.

    Channel by channel, y = a x + d. With few values per channel one line, w (a x + d) + b with the affine values w and
    b of the old layer, is fitted to all channels together; they stay, and the line becomes the statistics. Without
    ``affine``, because other layers read those values too, they stay as well.
    """
    if seen.count < ENOUGH:
        _fit_all(layer, seen)
    elif affine:
        _fit_channels(layer, seen)
    else:
        _fit_statistics(layer, seen)


def _fit_channels(layer: ChannelBatchNorm, seen: Moments) -> None:
    n = seen.count
    mean, mean_y = seen.x / n, seen.y / n
    variance = (seen.xx / n - mean**2).clamp_min(0)
    # A channel that does not vary keeps slope 0, whatever rounding left of its covariance.
    slope = (seen.xy / n - mean * mean_y) / (variance + 1e-9 * variance.mean()).clamp_min(1e-30)
    unbiased = variance * n / (n - 1)
    weight = slope * (unbiased + layer.eps).sqrt()
    _set(layer, {"running_mean": mean, "running_var": unbiased, "weight": weight, "bias": mean_y})


def _fit_statistics(layer: ChannelBatchNorm, seen: Moments) -> None:
    mean = seen.x / seen.count
    variance = (seen.xx / seen.count - mean**2).clamp_min(0) * seen.count / (seen.count - 1)
    _set(layer, {"running_mean": mean, "running_var": variance})


def _fit_all(layer: ChannelBatchNorm, seen: Moments) -> None:
    n, w, b = seen.count, layer.weight.detach().double(), layer.bias.detach().double()
    normal = torch.stack([(w**2 * seen.xx).sum(), (w**2 * seen.x).sum(), n * (w**2).sum()])
    right = torch.stack([(w * (seen.xy - b * seen.x)).sum(), (w * (seen.y - n * b)).sum()])
    determinant = normal[0] * normal[2] - normal[1] ** 2
    slope = (right[0] * normal[2] - right[1] * normal[1]) / determinant
    offset = (right[1] * normal[0] - right[0] * normal[1]) / determinant
    if bool(slope.isfinite()) and bool(offset.isfinite()) and slope > 0:
        variance = (slope**-2 - layer.eps).clamp_min(0)
        _set(layer, {"running_mean": (-offset / slope).expand_as(w), "running_var": variance.expand_as(w)})


def _set(layer: ChannelBatchNorm, values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            getattr(layer, name).copy_(value)
