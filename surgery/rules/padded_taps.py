"""Dilated convolutions, some of whose taps never leave the padding."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, fx, nn

from surgery.observing.evidence import Evidence
from surgery.observing.observe import tensors
from surgery.record import Edit, Refusal
from surgery.rule import Example, Promise, Rule
from surgery.rule_parts.operator_names import CONVOLUTION
from surgery.rule_parts.plain_convolution import Sides, is_plain, padded, plain, sides, with_settings_of
from surgery.rule_parts.tied import tied_to


class AtMost(nn.Module):
    """Passes on maps up to a size. Raises ValueError for larger ones."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) or (C, H, W), unchanged."""
        return at_most(input, self.height, self.width)

    def extra_repr(self) -> str:
        """Its bounds."""
        return f"{self.height}, {self.width}"


@fx.wrap
def at_most(x: Tensor, height: int, width: int) -> Tensor:
    """See ``AtMost``."""
    if x.shape[-2] > height or x.shape[-1] > width:
        found = f"{x.shape[-2]}x{x.shape[-1]}"
        raise ValueError(
            f"this layer was rewritten for maps of at most {height}x{width}, and this one is {found}; run surgery with "
            "an example of this size"
        )
    return x


class TrimPaddedTaps(Rule):
    """Some devices take no padding beyond the width of the map. Taps of a dilated kernel that only ever read padding
    do nothing; without them the padding fits. Larger images than the example's are refused when the layer runs."""

    name = "trim_padded_taps"
    promise = Promise.SAME_OUTPUT
    removes = CONVOLUTION
    emits = frozenset({"convolution", "constant_pad_nd"})
    default = False

    def examples(self) -> Sequence[Example]:
        """On both axes, on one, with a stride; kernels all of whose taps reach the map stay."""
        shape = (2, 4, 9, 12)
        conv = partial(nn.Conv2d, 4, 4)
        trimmed: list[dict[str, Any]] = [
            {"kernel_size": 3, "padding": 36, "dilation": 36},
            {"kernel_size": 3, "padding": 10, "dilation": 10, "groups": 2},
            {"kernel_size": 5, "padding": 12, "dilation": 6, "bias": False},
            {"kernel_size": 3, "padding": 11, "dilation": 11, "stride": 2},
        ]
        left: list[dict[str, Any]] = [{"kernel_size": 3, "padding": 8, "dilation": 8}, {"kernel_size": 1}]
        return [
            *(Example(partial(conv, **settings), shape, 1) for settings in trimmed),
            *(Example(partial(conv, **settings), shape, 0) for settings in left),
        ]

    def matches(self, module: nn.Module) -> bool:
        """A dilated convolution with zeros around the map."""
        return is_plain(module, nn.Conv2d) and module.padding_mode == "zeros" and max(module.dilation) > 1  # type: ignore[arg-type]

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Only where the example shows taps that read nothing but padding."""
        for name, module in evidence.modules():
            if name and self.matches(module) and _reached(module, name, evidence):
                yield self._edit_or_refusal(module, name, evidence)

    def params(self, module: nn.Module, name: str, evidence: Evidence) -> Mapping[str, Any] | Refusal:
        """The taps to keep, from the first to behind the last, of rows and of columns, and the size of the map."""
        if (reason := tied_to(evidence, module)) is not None:
            return Refusal(self.name, name, reason)
        run = evidence.run(name)
        if run is None or run.count != 1:
            return Refusal(self.name, name, "it runs on maps of several sizes")
        return _reached(module, name, evidence)

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """A smaller kernel behind a look at the size of the map."""
        assert isinstance(module, nn.Conv2d)
        (top, bottom), (left, right) = params["rows"], params["columns"]
        down, across = module.dilation
        own = sides(module)
        last_row, last_column = module.kernel_size[0] - bottom, module.kernel_size[1] - right
        amount = Sides(
            own.top - top * down,
            own.bottom - last_row * down,
            own.left - left * across,
            own.right - last_column * across,
        )
        weight = module.weight.detach()[:, :, top:bottom, left:right].clone()
        dilation = tuple(d if size > 1 else 1 for d, size in zip(module.dilation, weight.shape[2:], strict=True))
        conv = plain(weight, module.bias, module, stride=module.stride, dilation=dilation, groups=module.groups)
        return with_settings_of(module, nn.Sequential(AtMost(*params["map"]), padded(conv, amount)))


def _reached(module: nn.Module, name: str, evidence: Evidence) -> dict[str, Any]:
    """Of a convolution with taps that only read padding: those that do not. {} where all do, or it did not run."""
    run = evidence.run(name)
    if run is None or not isinstance(module, nn.Conv2d):
        return {}
    size, amount = tensors([run.args, dict(run.kwargs)])[0].shape[-2:], sides(module)
    axes = ((amount.top, amount.bottom), (amount.left, amount.right))
    settings = zip(module.kernel_size, module.stride, module.dilation, size, axes, strict=True)
    kept = [_live(*axis) for axis in settings]
    if not all(kept) or kept == [(0, taps) for taps in module.kernel_size]:
        return {}
    return {"rows": list(kept[0] or ()), "columns": list(kept[1] or ()), "map": [int(side) for side in size]}


def _live(taps: int, stride: int, dilation: int, size: int, padding: tuple[int, int]) -> tuple[int, int] | None:
    """From the first tap of one axis that reads the map, to behind the last; None where none does.

    Output i reads, with tap t, the place i * stride + t * dilation - padding. A smaller map has fewer outputs, so what
    misses a map misses smaller ones too. A tap is kept where the map would have to be cut instead of padded without it.
    """
    outputs = (size + sum(padding) - dilation * (taps - 1) - 1) // stride + 1
    places = [[i * stride + t * dilation - padding[0] for i in range(outputs)] for t in range(taps)]
    live = [tap for tap, read in enumerate(places) if any(0 <= place < size for place in read)]
    if not live:
        return None
    first, last = min(live[0], padding[0] // dilation), max(live[-1] + 1, taps - padding[1] // dilation)
    return first, last
