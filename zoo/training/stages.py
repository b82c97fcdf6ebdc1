"""Where the stages of a model end: the last blocks at each resolution, found by watching one forward pass."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import StepError
from zoo.schedule import Distillation

BACKBONE = "backbone"  # what segmenters and detectors call the part that has stages; the rest is their head
SHRINKS_ONCE = 9  # times fewer positions is more than one halving of both sides, of an odd number too


@dataclass(frozen=True)
class Call:
    """A module that ran: what it received and returned, and the calls that it made of others."""

    name: str
    received: int | None  # positions: of features (N, C, H, W) or (N, H, W, C) H * W, of tokens (N, L, C) L
    returned: list[torch.Size] = field(default_factory=list)  # one shape, or none where it is no tensor
    inner: list["Call"] = field(default_factory=list)

    @property
    def positions(self) -> int | None:
        """Of what it returned."""
        return _positions(self.returned[0]) if self.returned else None

    def is_block(self) -> bool:
        """Whether it halves the sides of its input once at most: as far as a model is taken apart."""
        if not self.inner:
            return True
        return bool(self.received and self.positions and self.received < SHRINKS_ONCE * self.positions)

    def blocks(self) -> Iterator["Call"]:
        """The outermost blocks, in the order in which they ended."""
        if self.is_block():
            yield self
        else:
            for call in self.inner:
                yield from call.blocks()

    def all(self) -> Iterator["Call"]:
        """This call and all below it."""
        yield self
        for call in self.inner:
            yield from call.all()


def taught_stages(
    distillation: Distillation | None, teacher: nn.Module | None, student: nn.Module, size: int, name: str
) -> tuple[str, ...]:
    """The `common_stages` that a schedule asks to learn by; none where it does not, or where there is no teacher."""
    if teacher is None or distillation is None or not distillation.features:
        return ()
    return common_stages(teacher, student, size, name)


def common_stages(source: nn.Module, lite: nn.Module, size: int, name: str) -> tuple[str, ...]:
    """Qualified names of the modules that end a stage of the source and give the same shape in the lite model.

    Of the source's blocks that ran once in each model, the last at each resolution; in a model with a backbone, those
    of the backbone. A single position, as pooling leaves it, is no resolution. Both models see one black image (1, 3,
    size, size) in eval mode and are left as they were.

    Raises StepError, which begins with ``name``, where there is none.
    """
    taught, learning = _watched(source, size), _watched(lite, size)
    shapes, own = _shapes(taught.all()), _shapes(learning.all())
    ends: dict[int, str] = {}
    for block in taught.blocks():
        if block.name in shapes and shapes[block.name] == own.get(block.name) and _is_in_backbone(block.name, source):
            ends.pop(block.positions or 0, None)  # the order is that of the last of each
            ends[block.positions or 0] = block.name
    if not (stages := tuple(name for positions, name in ends.items() if positions > 1)):
        raise StepError(
            f"{name}: no stage of the source and of the lite model ends with features of the same shape, so none can "
            "teach; take 'features' out of the schedule's distillation"
        )
    return stages


def _is_in_backbone(name: str, model: nn.Module) -> bool:
    return not hasattr(model, BACKBONE) or name == BACKBONE or name.startswith(f"{BACKBONE}.")


def _shapes(calls: Iterable[Call]) -> Mapping[str, torch.Size]:
    """What modules returned, of those that ran once: of others it is not known which time is meant."""
    made = list(calls)
    times = Counter(call.name for call in made)
    return {call.name: call.returned[0] for call in made if call.returned and times[call.name] == 1}


def _watched(model: nn.Module, size: int) -> Call:
    """The model's own call."""
    parameter = next(model.parameters())
    image = torch.zeros(1, 3, size, size, device=parameter.device, dtype=parameter.dtype)
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad(), _recorded(model.eval()) as outside:
            model(image)
    finally:
        for module, training in modes.items():
            module.training = training
    return outside.inner[0]


@contextmanager
def _recorded(model: nn.Module) -> Iterator[Call]:
    """A call around that of the model, while this lasts."""
    running = [Call("", None)]
    handles = []
    for name, module in model.named_modules():

        def begin(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str = name) -> None:
            given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
            call = Call(name, _positions(given[0].shape) if given else None)
            running[-1].inner.append(call)
            running.append(call)

        def end(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            call = running.pop()
            if isinstance(output, Tensor):
                call.returned.append(output.shape)

        handles.append(module.register_forward_pre_hook(begin, with_kwargs=True))
        handles.append(module.register_forward_hook(end))
    try:
        yield running[0]
    finally:
        for handle in handles:
            handle.remove()


def _positions(shape: torch.Size) -> int | None:
    """Images are square, which tells where their channels are."""
    if len(shape) == 3:
        return shape[1]
    if len(shape) != 4:
        return None
    channels_last = shape[1] == shape[2] != shape[3]
    return shape[1] * shape[2] if channels_last else shape[2] * shape[3]
