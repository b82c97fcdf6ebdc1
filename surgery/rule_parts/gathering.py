"""Blocks of pixels gathered into channels: where a model does it, and in which order."""

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

# Calls that only move values.
_MOVES = {
    *("cat", "concat", "concatenate", "stack", "getitem", "slice", "narrow", "select", "pixel_unshuffle"),
    *("view", "reshape", "permute", "transpose", "swapaxes", "movedim", "contiguous", "flatten", "unflatten"),
}


@dataclass(frozen=True)
class Gathering:
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


def is_gathering(image: Sequence[int], gathered: Sequence[int]) -> bool:
    """Whether shapes are (N, C, H, W) and (N, C * r * r, H / r, W / r) with r > 1."""
    if len(image) != 4 or len(gathered) != 4 or not gathered[2]:
        return False
    block = image[2] // gathered[2]
    n, c, h, w = gathered
    return block > 1 and tuple(image) == (n, c // block**2, h * block, w * block) and c % block**2 == 0


def may_gather(evidence: Evidence, name: str) -> bool:
    """Whether a module's own forward may gather blocks, as far as shapes tell."""
    calls = [call for call in evidence.calls(name) if call.function in _MOVES]
    images = {tuple(t.shape) for call in calls for t in tensors([call.args, call.kwargs])}
    made = {tuple(call.output.shape) for call in calls if isinstance(call.output, Tensor)}
    return any(is_gathering(image, gathered) for image in images for gathered in made)


def find_gatherings(observation: Observation, model: nn.Module) -> Iterator[Gathering]:
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
                if is_gathering(tensor.shape, given[0].shape):
                    seen.add(tuple(tensor.shape))
                elif before and before.module == maker.module and before.function in _MOVES:
                    queue.append(before)
        if len(seen) == 1:
            yield Gathering(maker.module, name, seen.pop(), tuple(given[0].shape))


def order_of(gather: Callable[[Tensor], Any], found: Gathering) -> list[int] | None:
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


def place_of(graph: fx.Graph, found: Gathering) -> tuple[fx.Node, fx.Node, list[int]] | None:
    """Where a graph gathers: the node that has the blocks, the one that is the image, and the order."""
    nodes = list(graph.nodes)
    images = [n for n in nodes if shape_of(n) == found.image]
    for root in nodes:
        if of_node(root) in _MOVES and shape_of(root) == found.gathered:
            for image in images:
                order = order_of(partial(_evaluate, root, image), found)
                if order is not None and len(root.users) == 1:
                    return root, image, order
    return None


def leave_out(root: fx.Node, image: fx.Node) -> None:
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
