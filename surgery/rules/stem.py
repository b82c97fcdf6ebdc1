"""Stems that rearrange an image's blocks of pixels into channels before the first convolution."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from surgery.observing.evidence import Evidence
from surgery.observing.names import of_node
from surgery.observing.observe import Observation, tensors, token
from surgery.observing.shapes import shape_of
from surgery.observing.trace import Traced, Untraceable
from surgery.operating.rewrite import install
from surgery.record import Edit, Refusal
from surgery.rule import Example, Promise, Rule, Stage, replace_module, submodule
from surgery.rule_parts.plain_convolution import (
    Sides,
    in_sequence,
    is_plain,
    padded,
    padding_layers,
    plain,
    sides,
    tied_to,
)

# Calls that only move values.
_MOVES = {
    *("cat", "concat", "concatenate", "stack", "getitem", "slice", "narrow", "select", "pixel_unshuffle"),
    *("view", "reshape", "permute", "transpose", "swapaxes", "movedim", "contiguous", "flatten", "unflatten"),
}


@dataclass(frozen=True)
class _Found:
    """A module that gathers blocks, the convolution that alone reads them, and the shapes around the gathering."""

    gather: str
    conv: str
    image: tuple[int, ...]  # (N, C, H, W)
    gathered: tuple[int, ...]  # (N, C * block**2, H / block, W / block)

    @property
    def block(self) -> int:
        """Side of a block of pixels."""
        return self.image[2] // self.gathered[2]

    @property
    def site(self) -> str:
        """The innermost module that holds both: outside of it nothing changes."""
        ones, others = self.gather.split("."), self.conv.split(".")
        same = takewhile(lambda pair: pair[0] == pair[1], zip(ones, others, strict=False))
        return ".".join(one for one, _ in same)


class FocusToConv(Rule):
    """Moving each 2x2 block of pixels into channels costs more than to convolve with stride 2, which is the same."""

    name = "focus_to_conv"
    promise = Promise.SAME_OUTPUT
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
        if not any(_gathers(evidence, name) for name, _ in evidence.modules()):
            return
        observation = evidence.observation()
        for found in _find(observation, model) if observation else ():
            yield self._judge(found, evidence)

    def _judge(self, found: _Found, evidence: Evidence) -> Edit | Refusal:
        if isinstance(reason := _why_not(found, evidence), str):
            return Refusal(self.name, found.site, reason)
        params: dict[str, Any] = {"gather": found.gather, "conv": found.conv}
        params |= {"image": list(found.image), "gathered": list(found.gathered)}
        module = evidence.model.get_submodule(found.gather)
        if found.gather and not list(module.children()) and not list(module.parameters()):
            order = _order(lambda x: module(x), found)
            kind = type(module).__name__
        else:
            traced = evidence.traced(found.gather)
            if isinstance(traced, Untraceable):
                return Refusal(self.name, found.site, f"it gathers blocks of pixels; cannot trace it: {traced.reason}")
            places = [_place(graph, found) for graph in (traced.train, traced.evaluate)]
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
        found = _Found(params["gather"], params["conv"], tuple(params["image"]), tuple(params["gathered"]))
        conv, module = submodule(model, found.conv), submodule(model, found.gather)
        if not is_plain(conv, nn.Conv2d):
            raise LookupError(f"{found.conv} is a {type(conv).__name__}, no convolution")
        assert isinstance(conv, nn.Conv2d)
        if "rewrites" in params:
            traced = evidence.traced(found.gather, params["trace"])
            if isinstance(traced, Untraceable):
                raise LookupError(f"{found.gather} cannot be traced: {traced.reason}")
            for graph in (traced.train, traced.evaluate):
                if (place := _place(graph, found)) is None or place[2] != params["order"]:
                    raise LookupError(f"{found.gather} does not gather blocks of pixels as the plan says")
                root, image, _ = place
                _leave_out(root, image)
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


def _why_not(found: _Found, evidence: Evidence) -> str | None:
    conv, run = evidence.model.get_submodule(found.conv), evidence.run(found.gather)
    if not is_plain(conv, nn.Conv2d):
        return f"{found.conv}, a {type(conv).__name__}, reads the blocks: no plain convolution"
    assert isinstance(conv, nn.Conv2d)
    counts = [ran.count for name in (found.gather, found.conv) if (ran := evidence.run(name))]
    if run is None or counts != [1, 1]:
        return "it runs more than once"
    if other := tied_to(evidence, conv):
        return f"the weight of {found.conv} is tied to that of {other}"
    if conv.groups != 1 or conv.dilation != (1, 1):
        return f"{found.conv} has groups or dilation, which one strided convolution does not have"
    if conv.padding_mode not in {"zeros", "circular"}:
        return f"{found.conv} pads with values of the image, which would be others"
    if found.block > 2 and max(conv.kernel_size) > 1:
        side = found.block * max(conv.kernel_size)
        return f"a kernel of {side}x{side} would cost more than the rearrangement"
    return None


def _is_gathering(image: Sequence[int], gathered: Sequence[int]) -> bool:
    """Whether shapes are (N, C, H, W) and (N, C * r * r, H / r, W / r) with r > 1."""
    if len(image) != 4 or len(gathered) != 4 or not gathered[2]:
        return False
    block = image[2] // gathered[2]
    n, c, h, w = gathered
    return block > 1 and tuple(image) == (n, c // block**2, h * block, w * block) and c % block**2 == 0


def _gathers(evidence: Evidence, name: str) -> bool:
    """Whether a module's own forward may gather blocks, as far as shapes tell."""
    calls = [call for call in evidence.calls(name) if call.function in _MOVES]
    images = {tuple(t.shape) for call in calls for t in tensors([call.args, call.kwargs])}
    made = {tuple(call.output.shape) for call in calls if isinstance(call.output, Tensor)}
    return any(_is_gathering(image, gathered) for image in images for gathered in made)


def _find(observation: Observation, model: nn.Module) -> Iterator[_Found]:
    """Convolutions whose input is gathered by calls of one module and read by nothing else."""
    makers = {made: call for call in observation.calls for made in call.outputs if made not in call.inputs}
    returned = {token(tensor) for tensor in tensors(observation.output)}
    for name, module in model.named_modules():
        given = (
            tensors(observation.runs[name].args) if isinstance(module, nn.Conv2d) and name in observation.runs else []
        )
        maker = makers.get(token(given[0])) if given else None
        if maker is None or maker.function not in _MOVES or token(given[0]) in returned:
            continue
        if [call.module for call in observation.users(given[0])] != [name]:
            continue
        seen, queue = set(), [maker]
        while queue:
            step = queue.pop()
            for tensor in tensors([step.args, step.kwargs]):
                before = makers.get(token(tensor))
                if _is_gathering(tensor.shape, given[0].shape):
                    seen.add(tuple(tensor.shape))
                elif before and before.module == maker.module and before.function in _MOVES:
                    queue.append(before)
        if len(seen) == 1:
            yield _Found(maker.module, name, seen.pop(), tuple(given[0].shape))


def _order(gather: Callable[[Tensor], Any], found: _Found) -> list[int] | None:
    """Which row and column of which channel each gathered channel holds (see ``strided``); None if it is not so."""
    places = torch.arange(torch.Size(found.image).numel(), dtype=torch.float64).view(found.image)
    try:
        gathered = gather(places)
    except Exception:  # whatever calls make of another input
        return None
    if not isinstance(gathered, Tensor) or tuple(gathered.shape) != found.gathered:
        return None
    blocks = F.pixel_unshuffle(places, found.block)
    first = {int(value): i for i, value in enumerate(blocks[0, :, 0, 0])}
    order = [first.get(int(value), -1) for value in gathered[0, :, 0, 0]]
    if sorted(order) != list(range(len(order))) or not torch.equal(gathered, blocks[:, order]):
        return None
    return order


def _place(graph: fx.Graph, found: _Found) -> tuple[fx.Node, fx.Node, list[int]] | None:
    """Where a graph gathers: the node that has the blocks, the one that is the image, and the order."""
    nodes = list(graph.nodes)
    images = [n for n in nodes if shape_of(n) == found.image]
    for root in nodes:
        if of_node(root) in _MOVES and shape_of(root) == found.gathered:
            for image in images:
                order = _order(partial(_evaluate, root, image), found)
                if order is not None and len(root.users) == 1:
                    return root, image, order
    return None


def _leave_out(root: fx.Node, image: fx.Node) -> None:
    """Let readers of the blocks read the image, and erase what only the blocks were made of."""
    root.replace_all_uses_with(image)
    made, queue = set(), [root]
    while queue:
        node = queue.pop()
        if node not in made and node is not image and node.op in {"call_function", "call_method"}:
            made.add(node)
            queue += node.all_input_nodes
    for node in reversed(list(root.graph.nodes)):
        if node in made and not node.users:
            root.graph.erase_node(node)


def _evaluate(root: fx.Node, variable: fx.Node, value: Tensor) -> Any:
    """The value of a node where another one has a given value. Raises LookupError where it needs more than that."""
    known: dict[fx.Node, Any] = {variable: value}

    def of(node: fx.Node) -> Any:
        if node not in known:
            if node.op not in {"call_function", "call_method"}:
                raise LookupError(f"{node} is not made of {variable}")
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), of)
            if node.op == "call_function":
                known[node] = node.target(*args, **kwargs)  # type: ignore[operator]
            else:
                known[node] = getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return known[node]

    return of(root)


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
