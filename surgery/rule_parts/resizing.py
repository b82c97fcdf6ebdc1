"""Resizing in plain operations: by whole factors, as a small pool, or as two products with constant matrices."""

import math
from typing import Any

from torch import Tensor, fx, nn
from torch.nn import functional as F

from surgery.rule_parts.axis_products import bin_averages, interpolation, nearest, product
from surgery.rule_parts.pool_windows import Pair, pair
from surgery.rules.average_pooling import average_chain

MODES = ("nearest", "nearest-exact", "area", "bilinear", "bicubic")
LARGEST_FACTOR = 4


class Resize(nn.Module):
    """Does what ``F.interpolate`` does with these settings, at any size, in operations that devices have.

    The size to reach is given when it is called, or here as ``size`` or ``scale``. With ``split`` a bilinear resize by
    8 is one by 4 and one by 2, which is close but not the same.
    """

    def __init__(
        self,
        mode: str,
        size: Pair | None = None,
        scale: tuple[float, float] | None = None,
        recompute: bool = False,
        align_corners: bool = False,
        antialias: bool = False,
        split: bool = False,
    ) -> None:
        super().__init__()
        self.mode, self.size, self.scale, self.recompute = mode, size, scale, recompute
        self.align_corners, self.antialias, self.split = align_corners, antialias, split

    def forward(self, input: Tensor, size: Any = None) -> Tensor:
        """(N, C, H, W), or whatever else ``F.interpolate`` takes."""
        wanted = self.size if size is None else size
        scale = self.scale if wanted is None else None
        return resized(input, wanted, scale, self.recompute, self.mode, self.align_corners, self.antialias, self.split)

    def extra_repr(self) -> str:
        """Its settings."""
        flags = [name for name in ("recompute", "align_corners", "antialias", "split") if getattr(self, name)]
        return ", ".join([repr(self.mode), f"size={self.size}", f"scale={self.scale}", *flags])


@fx.wrap
def resized(
    x: Tensor,
    size: Any,
    scale: tuple[float, float] | None,
    recompute: bool,
    mode: str,
    align_corners: bool,
    antialias: bool,
    split: bool,
) -> Tensor:
    """See ``Resize``."""
    if x.dim() != 4 or not x.is_floating_point():
        align = align_corners if mode in {"bilinear", "bicubic"} else None
        return F.interpolate(x, _one_of(size), _one_of(scale), mode, align, recompute or None, antialias)
    before = (x.shape[2], x.shape[3])
    after, steps = _target(before, size, scale, recompute, mode)
    if after == before and steps == (None, None):
        return x.clone()
    if mode != "bicubic" and not align_corners and steps == (None, None):
        if factors := whole_factors(before, after):
            return _enlarged(x, factors, mode, split)
        if (factors := whole_factors(after, before)) and not antialias:
            reduced = _reduced(x, factors, mode)
            if reduced is not None:
                return reduced
    if mode == "area":
        return product(x, *(bin_averages(x, n, m) for n, m in zip(before, after, strict=True)))
    if mode in {"nearest", "nearest-exact"}:
        for axis, (n, m, step) in enumerate(zip(before, after, steps, strict=True)):
            if n != m or step is not None:
                x = x.index_select(axis + 2, nearest(x, n, m, step, mode == "nearest-exact"))
        return x
    rows, columns = (
        interpolation(x, n, m, step, mode, align_corners, antialias)
        for n, m, step in zip(before, after, steps, strict=True)
    )
    return product(x, rows, columns)


def _one_of(setting: Any) -> Any:
    """One number for all axes where those of an image have the same: a sequence has one axis, a volume three."""
    alike = isinstance(setting, list | tuple) and len(setting) == 2 and setting[0] == setting[1]
    return setting[0] if alike else setting


def _target(
    before: Pair, size: Any, scale: tuple[float, float] | None, recompute: bool, mode: str
) -> tuple[Pair, tuple[float | None, float | None]]:
    """The size to reach, and steps between samples where they are not the ratio of sizes."""
    if size is not None or scale is None:
        return pair(size), (None, None)
    after = (math.floor(before[0] * scale[0]), math.floor(before[1] * scale[1]))
    steps = [
        None if recompute or m == n * s or _is_shortcut(n, m, mode) else 1 / s
        for n, m, s in zip(before, after, scale, strict=True)
    ]
    return after, (steps[0], steps[1])


def _is_shortcut(n: int, m: int, mode: str) -> bool:
    """Whether torch resizes as from n to m whatever scale it was asked for."""
    return mode == "area" or (m == n and mode != "nearest-exact") or (m == 2 * n and mode == "nearest")


def whole_factors(small: tuple[int, ...], large: tuple[int, ...]) -> Pair | None:
    """How many times larger one size is than the other along each axis; None where it is no whole number."""
    (h, w), (tall, wide) = small[-2:], large[-2:]
    return None if tall % h or wide % w else (tall // h, wide // w)


def small_factors(factor: int) -> list[int]:
    """As many fours as there are in a factor of more than 4, then a two, then what is left."""
    found = []
    for part in (4, 2):
        while factor > LARGEST_FACTOR and factor % part == 0:
            found.append(part)
            factor //= part
    return [*found, factor]


def _enlarged(x: Tensor, factors: Pair, mode: str, split: bool) -> Tensor:
    rows, columns = (small_factors(f) if split or mode != "bilinear" else [f] for f in factors)
    length = max(len(rows), len(columns))
    rows, columns = ([1] * (length - len(axis)) + axis for axis in (rows, columns))
    for h, w in zip(rows, columns, strict=True):
        if mode == "bilinear":
            x = F.interpolate(x, scale_factor=(float(h), float(w)), mode="bilinear", align_corners=False)
        else:
            x = F.interpolate(x, scale_factor=(float(h), float(w)), mode="nearest")
    return x


def _reduced(x: Tensor, factors: Pair, mode: str) -> Tensor | None:
    """One pixel, or the mean of the middle two of each axis, out of each block; of all of it for area."""
    if mode == "area":
        chain = average_chain(factors, factors)
        for kernel, stride in chain or ():
            x = F.avg_pool2d(x, kernel, stride)
        return x if chain else None
    top, left = (_first(factor, mode) for factor in factors)
    kernel = (2 - factors[0] % 2, 2 - factors[1] % 2) if mode == "bilinear" else (1, 1)
    return F.avg_pool2d(x[..., top:, left:], kernel, factors)


def _first(factor: int, mode: str) -> int:
    return {"nearest": 0, "nearest-exact": factor // 2, "bilinear": (factor - 1) // 2}[mode]
