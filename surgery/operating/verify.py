"""Whether an output is what was promised, and whether a batch of another size still goes through."""

from collections.abc import Callable
from typing import Any

import torch

from surgery.observing.observe import tensors
from surgery.operating.comparing import difference, other_structure, other_values, shapes
from surgery.operating.example import Example
from surgery.operating.modes import restored_modes
from surgery.operating.undo import Snapshot, preserved
from surgery.record import Promise

# What compares outputs is known by this module's name too.
__all__ = ["MAGNIFIED", "SAME", "BatchCheck", "broken_promise", "difference", "output_of", "same_within"]

# Largest |after - before| over largest |before| that counts as the same output: of float32 and of float64; in lower
# precision, so many roundings. docs/decisions/0008 says why.
SAME = 1e-5
SAME_DOUBLE = 1e-12
ROUNDINGS = 8
# So much larger may be what layers behind the edits make of rounding.
MAGNIFIED = 10


def broken_promise(
    promise: str,
    before: Any,
    after: Any,
    what: str,
    within: float | None = None,
    in_double: Callable[[], tuple[Any, Any]] | None = None,
) -> str | None:
    """Why an output is not what was promised, or None.

    ``within`` is how far numbers may be off, by default ``same_within`` of what was there before. Where they are a
    little further off, ``in_double`` gives both outputs computed in float64, which tell rounding from a fault.
    """
    reason = other_structure(before, after)
    if reason is None and promise == Promise.SAME_OUTPUT:
        within = same_within(before) if within is None else within
        reason = other_values(before, after, within)
        if reason and in_double and not other_values(before, after, MAGNIFIED * within):
            reason = _in_double(in_double, within)
    return reason and f"{what}{reason}"


def _in_double(outputs: Callable[[], tuple[Any, Any]], within: float) -> str | None:
    try:
        return other_values(*outputs(), within)
    except Exception:  # the module runs in its own precision alone, where this little may be rounding
        return None


def same_within(value: Any) -> float:
    """How far an output may be off and still be the same, for the coarsest dtype in a nested value."""
    dtypes = {tensor.dtype for tensor in tensors(value) if tensor.is_floating_point() or tensor.is_complex()}
    return max(map(_same_within, dtypes), default=SAME)


def _same_within(dtype: torch.dtype) -> float:
    roundings = torch.finfo(dtype).eps / torch.finfo(torch.float32).eps
    return SAME_DOUBLE if roundings < 1 else SAME if roundings == 1 else ROUNDINGS * torch.finfo(dtype).eps


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
