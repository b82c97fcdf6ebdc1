"""How two outputs differ: in structure, in plain values, in numbers."""

import math
from typing import Any

import torch
from torch import Tensor

from surgery.observing.observe import tensors
from surgery.observing.parts import PLAIN, Holder, parts


def shapes(value: Any) -> list[tuple[int, ...]]:
    """Shapes of all tensors in a nested output."""
    return [tuple(tensor.shape) for tensor in tensors(value)]


def other_structure(before: Any, after: Any) -> str | None:
    """What is of another kind, shape or dtype, or is there in one alone; continues "its output", or None."""
    was, now = shapes(before), shapes(after)
    if sorted(was) != sorted(now):
        return f" would become {now} instead of {was}"
    old, new = parts(before), parts(after)
    for path in old | new:
        if path not in new:
            return f" would have no {path}"
        if path not in old:
            return f" would have {path} too"
        if (kind := _kind(old[path])) != (found := _kind(new[path])):
            return f"{path} would be {found} instead of {kind}"
        if (shape := _shape(old[path])) != (its := _shape(new[path])):
            return f"{path} would become {its} instead of {shape}"
    held = [item for item in old.values() if not isinstance(item, Holder)]
    if held and not any(isinstance(item, (Tensor, *PLAIN)) for item in held):
        return f" is {_kind(old[''])}, of which nothing can be compared"
    return None


def _kind(item: Any) -> str:
    if isinstance(item, Tensor):
        return f"a tensor of {str(item.dtype).removeprefix('torch.')}"
    kind = item.kind if isinstance(item, Holder) else type(item)
    return f"a {kind.__qualname__}" if kind.__module__ == "builtins" else f"a {kind.__module__}.{kind.__qualname__}"


def _shape(item: Any) -> tuple[int, ...] | None:
    return tuple(item.shape) if isinstance(item, Tensor) else None


def other_values(before: Any, after: Any, within: float) -> str | None:
    """Which numbers are further off than ``within`` of the largest, or which plain value is another, or None.

    Of two outputs of one structure; continues "its output".
    """
    old, new = parts(before), parts(after)
    for path, item in old.items():
        if isinstance(item, PLAIN) and not _same(item, new[path], within):
            return f"{path} would be {new[path]!r} instead of {item!r}"
    paths = [path for path, item in old.items() if isinstance(item, Tensor)]
    off = difference([old[path] for path in paths], [new[path] for path in paths])
    return None if off <= within else f" would change by {off:.2g} of its largest value"


def _same(one: Any, other: Any, within: float) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=within) or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


def difference(before: Any, after: Any) -> float:
    """Largest |after - before| over the largest |before|, over all tensors of two outputs.

    Raises ValueError where they hold different numbers of tensors.
    """
    worst = 0.0
    for was, now in zip(tensors(before), tensors(after), strict=True):
        was, now = was.detach(), now.detach()
        if was.is_meta or now.is_meta:
            continue  # there are no values
        if was.is_complex() and now.is_complex():
            was, now = torch.view_as_real(was.resolve_conj()), torch.view_as_real(now.resolve_conj())
        if was.numel() and not torch.equal(was, now):
            worst = max(worst, _difference(was, now))
    return worst


def _difference(was: Tensor, now: Tensor) -> float:
    """Of two tensors that differ somewhere; NaN and infinities are the same where both have them."""
    if was.is_floating_point() and was.dtype == now.dtype:  # most are finite: two passes tell, without a copy as double
        gap, scale = (float(torch.linalg.vector_norm(value, math.inf)) for value in (now - was, was))
        if math.isfinite(gap) and scale > 0:
            return gap / scale
    if was.is_floating_point():
        if not torch.equal(was.isfinite(), now.isfinite()):
            return math.inf
        was, now = was.nan_to_num(), now.nan_to_num()
    was, now = was.double(), now.double()
    return float((now - was).abs().max() / was.abs().max().clamp_min(torch.finfo(torch.float64).tiny))
