"""Whether an output is what was promised, and whether a batch of another size still goes through."""

import math
from typing import Any

import torch
from torch import Tensor

from surgery.observing.observe import tensors
from surgery.operating.example import Example
from surgery.operating.modes import restored_modes
from surgery.operating.undo import Snapshot, preserved
from surgery.record import Promise

# Largest |after - before| over largest |before| that counts as the same output; in low precision, so many roundings.
SAME = 1e-4
ROUNDINGS = 8


def broken_promise(promise: str, before: Any, after: Any, what: str) -> str | None:
    """Why an output is not what was promised, or None."""
    was, now = shapes(before), shapes(after)
    if was != now:
        return f"{what} would become {now} instead of {was}"
    if promise == Promise.SAME_OUTPUT:
        off = difference(before, after)
        if not off <= same_within(before):
            return f"{what} would change by {off:.2g} of its largest value"
    return None


def same_within(output: Any) -> float:
    """How far an output may be off and still be the same, for its dtypes."""
    dtypes = {tensor.dtype for tensor in tensors(output) if tensor.is_floating_point()}
    return max([SAME, *(ROUNDINGS * torch.finfo(dtype).eps for dtype in dtypes)])


def output_of(model: torch.nn.Module, example: Example) -> Any:
    """What the model returns in eval mode; it is left as it was."""
    inputs = example.copy()
    with preserved(model), restored_modes(model), torch.no_grad():
        return model.eval()(*inputs.args, **inputs.kwargs)


class BatchCheck:
    """Whether an edited model takes another batch size than the example's, where it did before the edits."""

    def __init__(self, model: torch.nn.Module, unedited: Snapshot, example: Example) -> None:
        self._doubled = example.doubled()
        self._expected: list[tuple[int, ...]] | None
        try:
            with unedited.standing(model):
                self._expected = shapes(output_of(model, self._doubled))
        except Exception:  # the model itself takes no other batch
            self._expected = None

    def __call__(self, edited: torch.nn.Module) -> str | None:
        """Why not, or None."""
        if self._expected is None:
            return None
        try:
            found = shapes(output_of(edited, self._doubled))
        except Exception as error:  # whatever a frozen number leads to
            return f"it would be bound to the example's batch size: {type(error).__name__}"
        return None if found == self._expected else "it would be bound to the example's batch size"


def shapes(value: Any) -> list[tuple[int, ...]]:
    """Shapes of all tensors in a nested output."""
    return [tuple(tensor.shape) for tensor in tensors(value)]


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
