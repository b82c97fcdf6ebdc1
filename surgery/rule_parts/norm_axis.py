"""Which layers normalise by their input's own statistics, and which axis holds their channels: found by trying them."""

from copy import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from surgery.observing.names import behaves_as, has_own_forward

_TYPES = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _InstanceNorm)
_WRITTEN = {"layer_norm", "group_norm", "rms_norm", "instance_norm", "rsqrt", "var", "var_mean", "std"}
_SIZE_NAMES = ("num_channels", "num_features", "normalized_shape")
# Sizes of the other axes while trying a layer; those that equal its number of channels are passed over.
_SIZES = (3, 5, 7, 11)


def channels(module: nn.Module) -> int | None:
    """Of a layer whose parameters are all one number per channel; None where that is not so."""
    sizes = {p.numel() for p in module._parameters.values() if p is not None}
    if not sizes:
        declared = [getattr(module, name) for name in _SIZE_NAMES if hasattr(module, name)]
        last = [size[-1] if isinstance(size, tuple) and len(size) == 1 else size for size in declared]
        sizes = {size for size in last if isinstance(size, int)}
    return sizes.pop() if len(sizes) == 1 else None


def norm_axis(module: nn.Module) -> int | None:
    """-1 or 1 where this layer normalises each sample by itself and has its channels there, else None.

    torch's own layers are known. Others are candidates by name or by what their forward calls, and are run on small
    random tensors: the output must not change with the scale of each token, for the last axis, or of each sample.
    """
    if has_own_forward(module):
        return None
    for kind in (nn.LayerNorm, nn.RMSNorm):
        if behaves_as(module, kind):
            return -1 if len(module.normalized_shape) == 1 else None  # type: ignore[arg-type]
    if behaves_as(module, nn.GroupNorm) or (isinstance(module, _InstanceNorm) and module.running_mean is None):
        return 1
    count = channels(module) if _may_be_norm(module) else None
    if count is None:
        return None
    for ndim in (4, 3, 2):
        for axis in (-1, 1):
            if _normalises(module, count, ndim, axis):
                return axis
    return None


def without_children(module: nn.Module) -> nn.Module:
    """The layer alone, on the same parameters; what it is fused with does nothing."""
    alone = copy(module)
    alone._modules = {name: nn.Identity() for name in module._modules}
    return alone


def _may_be_norm(module: nn.Module) -> bool:
    if isinstance(module, _BatchNorm) or any(p.numel() for child in module.children() for p in child.parameters()):
        return False
    code = getattr(type(module).forward, "__code__", None)
    written = bool(code) and not _WRITTEN.isdisjoint(code.co_names)  # type: ignore[union-attr]
    return isinstance(module, _TYPES) or "norm" in type(module).__name__.lower() or written


def _normalises(module: nn.Module, count: int, ndim: int, axis: int) -> bool:
    sizes = [2, *[size for size in _SIZES if size != count][: ndim - 2]]
    sizes.insert(1 if axis == 1 else len(sizes), count)
    like = next((t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()), torch.empty(0))
    x = _random(sizes).to(like.device, like.dtype)
    scales = _random([size if i == 0 or axis == -1 else 1 for i, size in enumerate(sizes[:-1])] + [1]).abs() + 2
    trial = without_children(module).eval()
    trial._parameters = {
        name: None if p is None else nn.Parameter(torch.ones_like(p)) for name, p in module._parameters.items()
    }
    with torch.no_grad():
        try:
            y, scaled = trial.forward(x), trial.forward(x * scales.to(x))
        except Exception:  # another layout than this layer takes, or nothing of the kind
            return False
    if not isinstance(y, Tensor) or y.shape != x.shape or torch.equal(y, x):
        return False
    spread = float(y.std())
    return spread > 0 and float((y - scaled).abs().max()) < 0.02 * spread


def _random(sizes: list[int]) -> Tensor:
    return torch.randn(sizes, generator=torch.Generator().manual_seed(0))
