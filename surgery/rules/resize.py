"""Resizing by size, by fractions or in ways that devices lack."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from surgery.observing.names import behaves_as
from surgery.risk import Risk
from surgery.rule import Example, Promise
from surgery.rule_parts.one_call import OneCallRule, Seen
from surgery.rule_parts.pool_windows import Pair, pair
from surgery.rule_parts.resizing import LARGEST_FACTOR, MODES, Resize, small_factors, whole_factors


@dataclass(frozen=True)
class Resizing:
    """Settings of ``F.interpolate`` on images."""

    mode: str
    size: Pair | None
    scale: tuple[float, float] | None
    recompute: bool
    align_corners: bool
    antialias: bool

    @property
    def is_plain(self) -> bool:
        """Whether devices have it for whole factors."""
        return self.mode != "bicubic" and not self.align_corners

    def module(self, mode: str | None = None, split: bool = False) -> Resize:
        """Exact, or plain of another mode."""
        exact = mode is None
        align, antialias = self.align_corners and exact, self.antialias and exact
        return Resize(mode or self.mode, self.size, self.scale, self.recompute, align, antialias, split)

    def factors(self, seen: Seen | None) -> Pair | None:
        """Whole factors by which it enlarges, as written or as seen; None where it does not or it is not known."""
        if self.scale and all(s >= 1 and s == int(s) for s in self.scale):
            return int(self.scale[0]), int(self.scale[1])
        return None if seen is None or seen.input == seen.output else whole_factors(seen.input, seen.output)


class _ResizeRule(OneCallRule):
    """A resize of an image, as ``nn.Upsample`` or ``F.interpolate``."""

    functions = ("interpolate", "upsample")
    runtime = ("size",)

    def parse(
        self,
        input: Any,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
        antialias: bool = False,
    ) -> Resizing | None:
        """The arguments of ``F.interpolate``; None where it is not about images."""
        if mode not in MODES or any(
            not isinstance(v, int | float) and len(v) != 2 for v in (size or 1, scale_factor or 1)
        ):
            return None
        whole = None if size is None else pair(size)
        scale = None
        if scale_factor is not None:
            h, w = (scale_factor, scale_factor) if isinstance(scale_factor, int | float) else scale_factor
            scale = (float(h), float(w))
        return Resizing(mode, whole, scale, bool(recompute_scale_factor), bool(align_corners), antialias)

    def arguments(self, module: nn.Module) -> Mapping[str, Any] | None:
        """Of ``nn.Upsample`` and what derives from it."""
        if not behaves_as(module, nn.Upsample):
            return None
        names = ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor")
        return {name: getattr(module, name) for name in names}

    def new(self, settings: Resizing | None, seen: Seen | None) -> nn.Module | str | None:
        """Resizes of sequences and volumes, and of whole numbers, stay."""
        image = seen is None or (len(seen.input) == 4 and seen.like().is_floating_point())
        return self.resize(settings, seen) if settings is not None and image else None

    def resize(self, settings: Resizing, seen: Seen | None) -> nn.Module | None:
        """What takes its place, if it is one for this rule."""
        raise NotImplementedError


class _Calls(nn.Module):
    """Calls ``F.interpolate``, for this file's examples."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self.kwargs = kwargs

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, **self.kwargs)


class _BySize(nn.Module):
    """Resizes to twice the size that it reads from its input, for this file's examples."""

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        return F.interpolate(x, size=(2 * h, 2 * w), mode="bilinear", align_corners=False)


class ResizeByFactor(_ResizeRule):
    """Devices resize by whole factors only; other resizes are exact as small pools or products with constants."""

    name = "resize_by_factor"
    promise = Promise.SAME_OUTPUT
    removes = frozenset(
        {
            "upsample_nearest2d",
            "upsample_bilinear2d",
            "_upsample_bilinear2d_aa",
            "upsample_bicubic2d",
            "_upsample_bicubic2d_aa",
        }
    )
    emits = frozenset({"upsample_nearest2d", "upsample_bilinear2d", "avg_pool2d", "bmm", "mm"})

    def examples(self) -> Sequence[Example]:
        """By size, by fractions, reduced, constant; whole factors stay."""
        shape = (2, 3, 6, 8)
        return [
            Example(_BySize, shape, 1),
            Example(lambda: _Calls(size=(9, 4), mode="bilinear", align_corners=False), shape, 1),
            Example(lambda: _Calls(scale_factor=0.5, mode="bilinear"), shape, 1),
            Example(lambda: _Calls(size=(3, 2), mode="bicubic", antialias=True), shape, 1),
            Example(lambda: _Calls(size=(9, 4), mode="bicubic"), shape, 1),
            Example(lambda: _Calls(size=(3, 2), mode="bilinear", antialias=True), shape, 1),
            Example(lambda: nn.Upsample(size=12), shape, 1),
            Example(lambda: nn.Upsample(size=(12, 16)), shape, 1),
            Example(lambda: nn.Upsample((12, 20), mode="bilinear", align_corners=True), shape, 1),
            Example(lambda: nn.Upsample(scale_factor=2.3, mode="nearest"), shape, 1),
            Example(lambda: nn.Upsample(scale_factor=2), shape, 0),
            Example(lambda: _Calls(scale_factor=4, mode="bilinear"), shape, 0),
        ]

    def resize(self, settings: Resizing, seen: Seen | None) -> nn.Module | None:
        """Enlarging by whole factors in other ways is left to ``resize_to_supported``, unless of a constant."""
        constant = seen is not None and seen.constant
        if settings.is_plain:
            by_factor = settings.scale is not None and settings.factors(None) is not None
            done = by_factor and settings.mode in {"nearest", "bilinear"} and not settings.antialias
            return None if done and not constant else settings.module()
        if seen is None or (settings.factors(seen) is not None and not constant):
            return None
        return settings.module()


class ResizeToSupported(_ResizeRule):
    """Devices enlarge nearest or bilinear between pixel centres; bicubic and align_corners become bilinear."""

    name = "resize_to_supported"
    promise = Promise.SAME_SHAPE
    risk = Risk.NEAR
    removes = frozenset({"upsample_bilinear2d", "upsample_bicubic2d"})
    emits = frozenset({"upsample_bilinear2d"})

    def examples(self) -> Sequence[Example]:
        """Both kinds, as module and as call; what is supported stays."""
        shape = (2, 3, 6, 8)
        return [
            Example(lambda: nn.UpsamplingBilinear2d(scale_factor=2), shape, 1),
            Example(lambda: _Calls(size=(12, 16), mode="bicubic"), shape, 1),
            Example(lambda: nn.Upsample(scale_factor=2, mode="bilinear"), shape, 0),
        ]

    def resize(self, settings: Resizing, seen: Seen | None) -> nn.Module | None:
        """Other than whole factors are exact in ``resize_by_factor``."""
        unknown = seen is None and settings.scale is None
        enlarges = settings.factors(seen) is not None and not (seen is not None and seen.constant)
        return settings.module("bilinear") if not settings.is_plain and (unknown or enlarges) else None


class SplitResize(_ResizeRule):
    """Devices enlarge by up to 4 at once; nearest by 8 is nearest by 4 and by 2."""

    name = "split_resize"
    promise = Promise.SAME_OUTPUT
    removes = frozenset({"upsample_nearest2d"})
    emits = frozenset({"upsample_nearest2d"})

    def examples(self) -> Sequence[Example]:
        """As module and as call; a factor of 4 stays."""
        shape = (2, 3, 2, 3)
        return [
            Example(lambda: nn.Upsample(scale_factor=8), shape, 1),
            Example(lambda: _Calls(scale_factor=(16.0, 2.0)), shape, 1),
            Example(lambda: nn.Upsample(scale_factor=4), shape, 0),
        ]

    def resize(self, settings: Resizing, seen: Seen | None) -> nn.Module | None:
        """By size is split by ``resize_by_factor`` already."""
        wanted = settings.mode == "nearest" and settings.scale is not None and _is_large(settings.factors(None))
        return settings.module() if wanted else None


class SplitBilinearResize(_ResizeRule):
    """Where a device enlarges bilinearly by up to 4 at once, 8 becomes 4 and 2: smoother than before."""

    name = "split_bilinear_resize"
    promise = Promise.SAME_SHAPE
    risk = Risk.NEAR
    removes = frozenset({"upsample_bilinear2d"})
    emits = frozenset({"upsample_bilinear2d"})
    default = False

    def examples(self) -> Sequence[Example]:
        """By factor, and as ``resize_by_factor`` leaves one by size; nearest stays."""
        shape = (2, 3, 2, 3)
        return [
            Example(lambda: nn.Upsample(scale_factor=8, mode="bilinear"), shape, 1),
            Example(lambda: _Calls(size=(32, 48), mode="bilinear"), shape, 1),
            Example(lambda: Resize("bilinear", size=(16, 24)), shape, 1),
            Example(lambda: nn.Upsample(scale_factor=8), shape, 0),
        ]

    def arguments(self, module: nn.Module) -> Mapping[str, Any] | None:
        """Of ``nn.Upsample`` and of ``Resize``."""
        if not isinstance(module, Resize):
            return super().arguments(module)
        own = {"size": module.size, "scale_factor": module.scale, "recompute_scale_factor": module.recompute}
        mode = "nearest" if module.split else module.mode  # what is split is done
        return own | {"mode": mode, "align_corners": module.align_corners, "antialias": module.antialias}

    def resize(self, settings: Resizing, seen: Seen | None) -> nn.Module | None:
        """Plain bilinear resizes by more than 4, as written or as seen."""
        wanted = settings.mode == "bilinear" and settings.is_plain and _is_large(settings.factors(seen))
        return settings.module("bilinear", split=True) if wanted else None


def _is_large(factors: Pair | None) -> bool:
    return factors is not None and any(f > LARGEST_FACTOR and len(small_factors(f)) > 1 for f in factors)
