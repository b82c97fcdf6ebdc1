"""Convolutions whose kernel is larger than an accelerator's multipliers are built for: as a sum, or as a series."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from surgery.observing.evidence import Evidence
from surgery.record import Edit, Refusal
from surgery.risk import Risk
from surgery.rule import Example, Promise, Rule, Stage
from surgery.rule_parts.operator_names import CONVOLUTION
from surgery.rule_parts.plain_convolution import (
    Crop2d,
    Pair,
    Sides,
    in_sequence,
    is_plain,
    padded,
    padding_layers,
    plain,
    sides,
    with_settings_of,
)
from surgery.rule_parts.tied import tied_to
from surgery.rule_parts.tiles import LARGEST, Tile, tiles


class SumOfConvolutions(nn.Module):
    """Convolutions of the same input that are added up: a large kernel in tiles. The bias is in the first."""

    def __init__(self, pad: Sequence[nn.Module], parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.pad = nn.Sequential(*pad)
        self.parts = nn.ModuleList(parts)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to what the one large convolution gives."""
        input = self.pad(input)
        first, *others = self.parts
        total: Tensor = first(input)
        for part in others:
            total = total + part(input)
        return total


class LargeKernel(Rule):
    """What is the same for all ways: which convolutions, and that a tied weight stays one."""

    largest: ClassVar[int] = LARGEST  # side of a kernel that stays as it is
    smallest: ClassVar[int] = 1  # side of a tile

    def matches(self, module: nn.Module) -> bool:
        """A side of more taps; where patches do not overlap (kernel = stride) devices have another way."""
        return is_plain(module, nn.Conv2d) and self._is_large(module)

    def _is_large(self, conv: Any) -> bool:
        return bool(max(conv.kernel_size) > self.largest and conv.kernel_size != conv.stride)

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Large convolutions; those that compute their weight are another rule's first."""
        yield from super().propose(model, evidence)
        for name, module in evidence.modules():
            computes = isinstance(module, nn.Conv2d) and not is_plain(module, nn.Conv2d)
            if computes and self._is_large(module) and not self.matched_before(module):
                yield Refusal(
                    self.name, name, "its forward computes its weight or padding; fold_computed_weights first"
                )

    def params(self, module: nn.Module, name: str, evidence: Evidence) -> Mapping[str, Any] | Refusal:
        """Nothing to know but the module."""
        reason = tied_to(evidence, module)
        return {} if reason is None else Refusal(self.name, name, reason)


class SplitLargeKernel(LargeKernel):
    """A kernel beyond 5x5 runs many times slower or not at all; a sum of small convolutions is the same function."""

    name = "split_large_kernel"
    promise = Promise.SAME_OUTPUT
    removes = CONVOLUTION
    emits = frozenset({"convolution", "add", "constant_pad_nd", "slice"})

    def examples(self) -> Sequence[Example]:
        """Square, wide, even, dilated, strided, depthwise, "same", reflected; patches and 5x5 stay."""
        shape = (2, 4, 13, 16)
        conv = partial(nn.Conv2d, 4, 4)
        large: list[dict[str, Any]] = [
            {"kernel_size": 7, "padding": 3, "stride": 2},
            {"kernel_size": 7, "padding": 3, "stride": 4, "bias": False},
            {"kernel_size": 7, "padding": 3, "groups": 4},
            {"kernel_size": (1, 11), "padding": (0, 5)},
            {"kernel_size": 6, "padding": "same", "dilation": 2},
            {"kernel_size": (7, 3), "dilation": 2, "padding": (6, 2), "groups": 2},
            {"kernel_size": 9, "padding": 4, "padding_mode": "reflect"},
        ]
        left: list[dict[str, Any]] = [{"kernel_size": 5, "dilation": 2}, {"kernel_size": 8, "stride": 8}]
        return [
            *(Example(partial(conv, **settings), shape, 1) for settings in large),
            *(Example(partial(conv, **settings), shape, 0) for settings in left),
        ]

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """One convolution for each tile of the kernel."""
        assert isinstance(module, nn.Conv2d)
        rows, columns = (tiles(taps, self.largest, self.smallest) for taps in module.kernel_size)
        pairs = list(product(rows, columns))
        amounts = [_reach(module, *pair) for pair in pairs]
        parts = [_part(module, pair, first=i == 0) for i, pair in enumerate(pairs)]
        if module.padding_mode == "zeros" and min(n for amount in amounts for n in amount.padding()) >= 0:
            alone = [padded(part, amount) for part, amount in zip(parts, amounts, strict=True)]
            return with_settings_of(module, SumOfConvolutions([], alone))
        # Padded once as the large convolution is, so that every piece reads the same values around the image.
        crops = [_crop(module, *pair) for pair in pairs]
        cropped = [in_sequence([*crop, part]) for crop, part in zip(crops, parts, strict=True)]
        pad = padding_layers(sides(module), module.padding_mode)
        return with_settings_of(module, SumOfConvolutions(pad, cropped))


def _part(conv: nn.Conv2d, pair: tuple[Tile, Tile], first: bool) -> nn.Conv2d:
    rows, columns = pair
    weight = conv.weight.detach()[:, :, rows.start : rows.start + rows.size, columns.start :][..., : columns.size]
    weight = weight.clone()
    weight[:, :, : rows.taken] = 0
    weight[..., : columns.taken] = 0
    bias = conv.bias if first else None
    return plain(weight, bias, conv, stride=conv.stride, dilation=conv.dilation, groups=conv.groups)


def _offsets(conv: nn.Conv2d, axis: int, tile: Tile) -> Pair:
    """How far from the ends of the padded input a tile's own reach begins and ends."""
    after = conv.kernel_size[axis] - tile.start - tile.size
    return tile.start * conv.dilation[axis], after * conv.dilation[axis]


def _reach(conv: nn.Conv2d, rows: Tile, columns: Tile) -> Sides:
    """The padding with which a tile alone sees what it sees in the whole kernel; negative where it sees less."""
    pad, (above, below), (before, after) = sides(conv), _offsets(conv, 0, rows), _offsets(conv, 1, columns)
    return Sides(pad.top - above, pad.bottom - below, pad.left - before, pad.right - after)


def _crop(conv: nn.Conv2d, rows: Tile, columns: Tile) -> Iterator[nn.Module]:
    amount = Sides.of(_offsets(conv, 0, rows), _offsets(conv, 1, columns))
    if amount:
        yield Crop2d(amount.padding())


class SplitKernelTo3x3(SplitLargeKernel):
    """Some devices take depthwise kernels beyond 3x3 without a stride only; a sum of 3x3 is the same function."""

    name = "split_kernel_to_3x3"
    default = False
    largest = 3

    def examples(self) -> Sequence[Example]:
        """Depthwise with a stride, wide, even, large, reflected; patches and 3x3 stay."""
        shape = (2, 4, 13, 16)
        conv = partial(nn.Conv2d, 4, 4)
        large: list[dict[str, Any]] = [
            {"kernel_size": 5, "padding": 2, "stride": 2, "groups": 4},
            {"kernel_size": 7, "padding": 3, "stride": 2, "groups": 4, "bias": False},
            {"kernel_size": (1, 5), "padding": (0, 2)},
            {"kernel_size": 4, "padding": 1, "stride": 2, "dilation": 2},
            {"kernel_size": 5, "padding": 2, "padding_mode": "reflect"},
        ]
        left: list[dict[str, Any]] = [{"kernel_size": 3, "dilation": 2}, {"kernel_size": 4, "stride": 4}]
        return [
            *(Example(partial(conv, **settings), shape, 1) for settings in large),
            *(Example(partial(conv, **settings), shape, 0) for settings in left),
        ]


class SplitLargeKernelTo5x5(SplitLargeKernel):
    """Tiles of 3x3 of an even kernel read past each other's padding, which takes slices; tiles of 5x5 need padding
    alone, for devices without slices."""

    name = "split_large_kernel_to_5x5"
    default = False
    smallest = 5
    emits = frozenset({"convolution", "add", "constant_pad_nd"})

    def examples(self) -> Sequence[Example]:
        """With a stride, wide, depthwise; 5x5 stays."""
        shape = (2, 4, 14, 16)
        conv = partial(nn.Conv2d, 4, 4)
        large: list[dict[str, Any]] = [
            {"kernel_size": 6, "padding": 2, "stride": 2},
            {"kernel_size": (1, 8), "padding": (0, 3)},
            {"kernel_size": 7, "padding": 3, "groups": 4, "bias": False},
        ]
        large_ones = [Example(partial(conv, **settings), shape, 1) for settings in large]
        return [*large_ones, Example(partial(conv, kernel_size=5), shape, 0)]


class LargeKernelSeries(LargeKernel):
    """A series of 3x3 and 5x5 convolutions sees as far as a large kernel, costs less, and has to be trained."""

    name = "large_kernel_series"
    promise = Promise.SAME_SHAPE
    risk = Risk.REDRAWN
    removes = CONVOLUTION
    emits = frozenset({"convolution", "constant_pad_nd"})
    stage = Stage.FOLD  # before the exact way
    default = False

    def examples(self) -> Sequence[Example]:
        """Square, wide, even, dilated, without padding, circular; 5x5 stays."""
        shape = (2, 4, 15, 16)
        conv = partial(nn.Conv2d, 4, 8)
        large: list[dict[str, Any]] = [
            {"kernel_size": 7, "padding": 3, "stride": 2},
            {"kernel_size": (3, 11), "padding": 5, "groups": 4},
            {"kernel_size": 6, "stride": 2},
            {"kernel_size": 7, "dilation": 2, "padding": 1},
            {"kernel_size": 9, "padding": "same", "padding_mode": "circular"},
        ]
        large_ones = [Example(partial(conv, **settings), shape, 1) for settings in large]
        return [*large_ones, Example(partial(conv, 5), shape, 0)]

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """The series; its paddings add up to the large convolution's, so that sizes agree for every image.

        It starts as the large kernel's middle: the last layer has its central taps and the stride; those before it only
        hand on values to begin with, and keep the number of channels.
        """
        assert isinstance(module, nn.Conv2d)
        axes = [series(taps) for taps in module.kernel_size]
        length = max(map(len, axes))
        sizes = list(zip(*([1] * (length - len(axis)) + axis for axis in axes), strict=True))
        amount = sides(module)
        layers = [] if module.padding_mode == "zeros" else padding_layers(amount, module.padding_mode)
        amount = Sides() if layers else amount
        wider = [sum(n - 1 for n in axis) - (taps - 1) for axis, taps in zip(axes, module.kernel_size, strict=True)]
        left = Sides(
            amount.top,
            amount.bottom + wider[0] * module.dilation[0],
            amount.left,
            amount.right + wider[1] * module.dilation[1],
        )
        for i, size in enumerate(sizes):
            last = i == length - 1
            own = left if last else _share(left, size, module.dilation)
            left = Sides(left.top - own.top, left.bottom - own.bottom, left.left - own.left, left.right - own.right)
            conv = _middle(module, size) if last else _mover(module, size)
            layers.append(padded(conv, own))
        return with_settings_of(module, in_sequence(layers))


def series(taps: int) -> list[int]:
    """Sizes, 3s before 5s, that see as many taps one after another as one kernel (one more where that is even).

    7 is 3 then 5, 9 is 5 then 5.
    """
    if taps <= LARGEST:
        return [taps]
    reach = taps // 2  # on each side
    return [3] * (reach % 2) + [5] * (reach // 2)


def _share(left: Sides, size: Pair, dilation: tuple[int, ...]) -> Sides:
    reach = [d * (n - 1) // 2 for n, d in zip(size, dilation, strict=True)]
    return Sides(
        min(left.top, reach[0]), min(left.bottom, reach[0]), min(left.left, reach[1]), min(left.right, reach[1])
    )


def _mover(conv: nn.Conv2d, size: Pair) -> nn.Conv2d:
    """A convolution that gives back its input, to begin with."""
    channels = conv.in_channels
    weight = torch.empty((channels, channels // conv.groups, *size), dtype=conv.weight.dtype, device=conv.weight.device)
    return plain(nn.init.dirac_(weight, conv.groups), None, conv, dilation=conv.dilation, groups=conv.groups)


def _middle(conv: nn.Conv2d, size: Pair) -> nn.Conv2d:
    weight = conv.weight.detach()
    for axis, (taps, kept) in enumerate(zip(conv.kernel_size, size, strict=True)):
        weight = weight.narrow(axis + 2, (taps + 1 - kept) // 2, kept)
    return plain(weight, conv.bias, conv, stride=conv.stride, dilation=conv.dilation, groups=conv.groups)
