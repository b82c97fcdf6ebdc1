"""Stems that rearrange an image's blocks of pixels into channels before the first convolution."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from surgery.observing.evidence import Evidence
from surgery.observing.trace import Traced, Untraceable
from surgery.operating.rewrite import install
from surgery.record import Edit, Refusal
from surgery.rule import Example, Promise, Rule, Stage, replace_module, submodule
from surgery.rule_parts.gathering import Gathering, find_gatherings, leave_out, may_gather, order_of, place_of
from surgery.rule_parts.operator_names import CONVOLUTION
from surgery.rule_parts.plain_convolution import (
    Sides,
    in_sequence,
    is_plain,
    padded,
    padding_layers,
    plain,
    sides,
)
from surgery.rule_parts.tied import tied_to


class FocusToConv(Rule):
    """Moving each 2x2 block of pixels into channels costs more than to convolve with stride 2, which is the same."""

    name = "focus_to_conv"
    promise = Promise.SAME_OUTPUT
    removes = CONVOLUTION | {"slice", "cat", "pixel_unshuffle"}
    emits = frozenset({"convolution"})
    stage = Stage.BLOCK

    def examples(self) -> Sequence[Example]:
        """Slices, pixel unshuffle as function and module; a rearrangement that something else reads stays."""
        shape = (2, 3, 12, 8)
        return [
            Example(partial(_Focus, 3), shape, 1),
            Example(partial(_Focus, 1), shape, 1),
            Example(partial(_Unshuffled, False), shape, 1),
            Example(lambda: nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 4, 3, padding=1)), shape, 1),
            Example(partial(_Unshuffled, True), shape, 0),
        ]

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Every module that gathers blocks for one convolution."""
        if evidence.example is None:
            for name in evidence.own_calls([frozenset(["pixel_unshuffle"])]):
                yield Refusal(self.name, name, "without example inputs it is not known what reads the blocks")
            return
        if not any(may_gather(evidence, name) for name, _ in evidence.modules()):
            return
        observation = evidence.observation()
        for found in find_gatherings(observation, model) if observation else ():
            yield self._judge(found, evidence)

    def _judge(self, found: Gathering, evidence: Evidence) -> Edit | Refusal:
        if isinstance(reason := _why_not(found, evidence), str):
            return Refusal(self.name, found.site, reason)
        params: dict[str, Any] = {"gather": found.gather, "conv": found.conv}
        params |= {"image": list(found.image), "gathered": list(found.gathered)}
        module = evidence.model.get_submodule(found.gather)
        if found.gather and not list(module.children()) and not list(module.parameters()):
            order = order_of(lambda x: module(x), found)
            kind = type(module).__name__
        else:
            traced = evidence.traced(found.gather)
            if isinstance(traced, Untraceable):
                return Refusal(self.name, found.site, f"it gathers blocks of pixels; cannot trace it: {traced.reason}")
            places = [place_of(graph, found) for graph in (traced.train, traced.evaluate)]
            if None in places or places[0][2] != places[1][2]:  # type: ignore[index]
                return Refusal(self.name, found.site, "how it gathers blocks of pixels is not known")
            order = places[0][2]  # type: ignore[index]
            params |= {"rewrites": {"train": 1, "eval": 1}, "trace": traced.method}
            kind = "blocks of pixels as channels"
        if order is None:
            return Refusal(self.name, found.site, "it does more than gather blocks of pixels")
        conv = evidence.model.get_submodule(found.conv)
        action = f"{kind} + {found.conv} -> one convolution with stride {found.block * conv.stride[0]}"  # type: ignore[index]
        return self.edit(found.site, action, params | {"order": order})

    def apply(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """The blocks are left where they are; the convolution strides over them."""
        params = edit.params
        found = Gathering(params["gather"], params["conv"], tuple(params["image"]), tuple(params["gathered"]))
        conv, module = submodule(model, found.conv), submodule(model, found.gather)
        if not is_plain(conv, nn.Conv2d):
            raise LookupError(f"{found.conv} is a {type(conv).__name__}, no convolution")
        assert isinstance(conv, nn.Conv2d)
        if "rewrites" in params:
            traced = evidence.traced(found.gather, params["trace"])
            if isinstance(traced, Untraceable):
                raise LookupError(f"{found.gather} cannot be traced: {traced.reason}")
            for graph in (traced.train, traced.evaluate):
                if (place := place_of(graph, found)) is None or place[2] != params["order"]:
                    raise LookupError(f"{found.gather} does not gather blocks of pixels as the plan says")
                root, image, _ = place
                leave_out(root, image)
            install(module, Traced(traced.train, traced.evaluate, traced.method))
        else:
            replace_module(model, module, nn.Identity())
        replace_module(model, conv, strided(conv, found.block, params["order"]))


def strided(conv: nn.Conv2d, block: int, order: Sequence[int]) -> nn.Module:
    """The convolution of the image that is this one of its gathered blocks.

    ``order[m]`` is (c * block + i) * block + j where gathered channel m holds row i and column j of each block of the
    image's channel c. A tap of the new kernel at block * y + i is the old one's tap y of the channel that holds i.
    """
    weight = torch.empty_like(conv.weight)
    weight[:, list(order)] = conv.weight.detach()
    outs, _, rows, columns = weight.shape
    blocks = weight.view(outs, -1, block, block, rows, columns).permute(0, 1, 4, 2, 5, 3)
    kernel = blocks.reshape(outs, -1, rows * block, columns * block)
    stride = tuple(block * n for n in conv.stride)
    amount = Sides.from_padding([block * n for n in sides(conv).padding()])
    new = plain(kernel, conv.bias, conv, stride=stride)
    if conv.padding_mode == "zeros":
        return padded(new, amount)
    return in_sequence([*padding_layers(amount, conv.padding_mode), new])


def _why_not(found: Gathering, evidence: Evidence) -> str | None:
    conv, run = evidence.model.get_submodule(found.conv), evidence.run(found.gather)
    if not is_plain(conv, nn.Conv2d):
        return f"{found.conv}, a {type(conv).__name__}, reads the blocks: no plain convolution"
    assert isinstance(conv, nn.Conv2d)
    counts = [ran.count for name in (found.gather, found.conv) if (ran := evidence.run(name))]
    if run is None or counts != [1, 1]:
        return "it runs more than once"
    if reason := tied_to(evidence, conv):
        return f"{found.conv}: {reason}"
    if conv.groups != 1 or conv.dilation != (1, 1):
        return f"{found.conv} has groups or dilation, which one strided convolution does not have"
    if conv.padding_mode not in {"zeros", "circular"}:
        return f"{found.conv} pads with values of the image, which would be others"
    if found.block > 2 and max(conv.kernel_size) > 1:
        side = found.block * max(conv.kernel_size)
        return f"a kernel of {side}x{side} would cost more than the rearrangement"
    return None


class _Focus(nn.Module):
    """Every second pixel in four shifts as channels, then a convolution (YOLOv5's first layer), for the examples."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 4, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 4, H / 2, W / 2)."""
        parts = [x[..., i::2, j::2] for j in range(2) for i in range(2)]
        out: Tensor = self.conv(torch.cat(parts, 1))
        return out


class _Unshuffled(nn.Module):
    """The same by pixel_unshuffle, for the examples; where ``keeps``, the blocks are added to the result."""

    def __init__(self, keeps: bool) -> None:
        super().__init__()
        self.conv, self.keeps = nn.Conv2d(12, 12, 3, stride=1 if keeps else 2, padding=1), keeps

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 12, H / 2, W / 2), or half of that."""
        x = F.pixel_unshuffle(x, 2)
        out: Tensor = self.conv(x)
        return x + out if self.keeps else out
