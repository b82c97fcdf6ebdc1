"""Calls of conv2d with a large kernel, in a module's own forward."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from operator import add, getitem
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from surgery.observing.evidence import Evidence
from surgery.observing.names import behaves_as
from surgery.observing.shapes import shape_of
from surgery.operating.rewrite import put_in_place
from surgery.patterns.pattern import CallPattern
from surgery.record import Edit, Refusal
from surgery.rule import Example, Promise, Rewrites, Rule
from surgery.rule_parts.operator_names import CONVOLUTION
from surgery.rule_parts.plain_convolution import CONV2D, both, is_plain, sides_of
from surgery.rule_parts.tiles import LARGEST, tiles


class SplitLargeKernelCalls(Rule):
    """A call of conv2d with a kernel beyond 5x5 becomes a sum of calls with parts of the same weight."""

    name = "split_large_kernel_calls"
    promise = Promise.SAME_OUTPUT
    removes = CONVOLUTION
    emits = frozenset({"convolution", "add", "constant_pad_nd", "slice"})

    def examples(self) -> Sequence[Example]:
        """A large kernel in several settings; a small one stays."""
        shape = (2, 4, 13, 16)
        large: list[dict[str, Any]] = [
            {"kernel": (7, 7), "padding": 3, "stride": 2},
            {"kernel": (11, 1), "padding": "same", "groups": 2},
            {"kernel": (6, 3), "dilation": 2, "stride": (1, 2)},
        ]
        calls = [Example(partial(_Calls, **settings), shape, 1) for settings in large]
        return [*calls, Example(partial(_Calls, kernel=(5, 5)), shape, 0)]

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Calls in the forward of what is no convolution layer itself: those are another rule's."""
        for name in evidence.own_calls([frozenset(["conv2d"])]):
            module = model.get_submodule(name)
            layer = behaves_as(module, nn.Conv2d) or is_plain(module, nn.Conv2d)
            if layer or not _may_be_large(evidence, name):
                continue
            yield from self.propose_in(name, ["conv2d"], evidence)

    def label(self) -> str:
        """What becomes what."""
        return "large conv2d -> sum of small ones"

    def rewrite(self, graph: fx.Graph) -> Rewrites:
        """Every call with a side of more than 5 taps, unless patches do not overlap."""
        count, declined = 0, []
        for match in list(CallPattern("conv2d").matches(graph)):
            bound = CONV2D.bind(*match.root.args, **match.root.kwargs)
            bound.apply_defaults()
            given = bound.arguments
            shape = _weight_shape(graph, given["weight"])
            settings = [given[name] for name in ("stride", "padding", "dilation", "groups")]
            if shape is None:
                declined.append("the kernel's size is not known")
            elif max(shape[2:]) <= LARGEST:
                continue
            elif any(isinstance(item, fx.Node) for item in pytree.tree_leaves(settings)):
                declined.append("its settings are computed")
            elif tuple(shape[2:]) != both(given["stride"]):
                with graph.inserting_after(match.root):
                    new = _sum(graph, given, (shape[2], shape[3]))
                put_in_place(match.root, new, match.variables)
                count += 1
        return Rewrites(count, tuple(declined))


def _may_be_large(evidence: Evidence, name: str) -> bool:
    """Whether one of the calls was seen to have a large kernel, or nothing was seen."""
    calls = [call for call in evidence.calls(name) if call.function == "conv2d"]
    weights = [CONV2D.bind(*call.args, **call.kwargs).arguments["weight"] for call in calls]
    return not weights or any(max(weight.shape[2:]) > LARGEST for weight in weights)


def _weight_shape(graph: fx.Graph, weight: Any) -> tuple[int, ...] | None:
    """The shape of a weight node, known without a run where it is the module's own."""
    if isinstance(weight, fx.Node) and weight.op == "get_attr" and graph.owning_module is not None:
        path, _, key = str(weight.target).rpartition(".")
        held = getattr(graph.owning_module.get_submodule(path), key)
        return tuple(held.shape)
    return shape_of(weight)


def _sum(graph: fx.Graph, given: dict[str, Any], kernel: tuple[int, int]) -> fx.Node:
    """Calls in order, the last of which gives the sum; the bias is in the first convolution."""
    made: list[fx.Node] = []

    def call(function: Any, *args: Any) -> fx.Node:
        node = graph.create_node("call_function", function, args)
        if made:
            made[-1].append(node)
        made.append(node)
        return node

    dilation = both(given["dilation"])
    around = sides_of(given["padding"], kernel, dilation)
    image = call(F.pad, given["input"], around.padding()) if around else given["input"]
    total = None
    for pair in product(*(tiles(taps) for taps in kernel)):
        # Taps that an earlier tile has are left out: parts of one weight cannot be set to zero.
        ranges = [(tile.start + tile.taken, tile.start + tile.size) for tile in pair]
        reach = [
            slice(start * d, -(taps - end) * d or None)
            for (start, end), taps, d in zip(ranges, kernel, dilation, strict=True)
        ]
        seen = call(getitem, image, (..., *reach))
        part = call(getitem, given["weight"], (..., *(slice(*ends) for ends in ranges)))
        bias = given["bias"] if total is None else None
        out = call(F.conv2d, seen, part, bias, both(given["stride"]), 0, dilation, given["groups"])
        total = out if total is None else call(add, total, out)
    assert total is not None
    return total


class _Calls(nn.Module):
    """A convolution by a call, for this file's examples."""

    def __init__(self, kernel: tuple[int, int], groups: int = 1, **settings: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.linspace(-1, 1, 16 // groups * kernel[0] * kernel[1]).sin().view(4, -1, *kernel)
        )
        self.bias = nn.Parameter(torch.ones(4))
        self.settings = settings | {"groups": groups}

    def forward(self, x: Tensor) -> Tensor:
        """(N, 4, H, W) to what conv2d gives with these settings."""
        return F.conv2d(x, self.weight, self.bias, **self.settings)
