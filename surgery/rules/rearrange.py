"""Operators that only move values, as reshapes and transposes."""

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from surgery.patterns.pattern import CallPattern, Match
from surgery.rule import Decline, Example, Promise, Rule
from surgery.rule_parts.example_call import ExampleCall


def pixel_shuffle(x: Tensor, factor: int) -> Tensor:
    """(..., C * r^2, H, W) -> (..., C, H * r, W * r), as ``F.pixel_shuffle``; fx proxies too."""
    blocks = torch.unflatten(x, -3, (-1, factor, factor))  # ..., C, r, r, H, W
    return blocks.movedim((-4, -3), (-3, -1)).flatten(-2, -1).flatten(-3, -2)


def pixel_unshuffle(x: Tensor, factor: int) -> Tensor:
    """(..., C, H * r, W * r) -> (..., C * r^2, H, W), as ``F.pixel_unshuffle``; fx proxies too."""
    blocks = torch.unflatten(torch.unflatten(x, -1, (-1, factor)), -3, (-1, factor))  # ..., C, H, r, W, r
    return blocks.movedim((-3, -1), (-4, -3)).flatten(-5, -3)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """(N, C, ...) -> the same shape, channels of the groups taken in turn, as ``F.channel_shuffle``; fx proxies too."""
    return torch.unflatten(x, 1, (groups, -1)).transpose(1, 2).flatten(1, 2)


_FUNCTIONS = {f.__name__: f for f in (pixel_shuffle, pixel_unshuffle, channel_shuffle)}
_ARGUMENTS = {"pixel_shuffle": "upscale_factor", "pixel_unshuffle": "downscale_factor", "channel_shuffle": "groups"}


class SpellOutShuffle(Rule):
    """Pixel and channel shuffles are operators that few devices list; reshape and transpose move the same values.

    The layers' own forward is such a call, so they keep their class.
    """

    name = "spell_out_shuffle"
    promise = Promise.SAME_OUTPUT
    removes = frozenset({"channel_shuffle", "pixel_shuffle", "pixel_unshuffle"})
    emits = frozenset({"permute", "transpose"})
    patterns = (CallPattern(*_FUNCTIONS),)

    def examples(self) -> Sequence[Example]:
        """The layers and the functions; a plain transpose stays."""
        shape = (2, 8, 4, 6)
        layers = (lambda: nn.PixelShuffle(2), lambda: nn.PixelUnshuffle(2), lambda: nn.ChannelShuffle(4))
        calls = (
            lambda x: F.pixel_shuffle(x, 2),
            lambda x: F.pixel_unshuffle(x, downscale_factor=2),
            lambda x: F.channel_shuffle(x, groups=2),
        )
        stays = ExampleCall.of(lambda x: x.flatten(2).transpose(1, 2))
        return [
            *(Example(layer, shape, 1) for layer in layers),
            *(Example(ExampleCall.of(f), shape, 1) for f in calls),
            Example(stays, shape, 0),
        ]

    def emit(self, graph: fx.Graph, match: Match) -> fx.Node | Decline:
        """The function's calls."""
        root = match.root
        function = str(getattr(root.target, "__name__", root.target))
        number = root.args[1] if len(root.args) > 1 else root.kwargs.get(_ARGUMENTS[function])
        if not isinstance(number, int):
            return Decline("its factor is not known before it runs")
        with graph.inserting_before(root):
            out = _FUNCTIONS[function](fx.Proxy(match.variables[0]), number)  # type: ignore[arg-type]
        return out.node  # type: ignore[attr-defined, no-any-return]
