"""What really runs on data: the ATen operators of one forward pass, with what each reads and gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from surgery.observing.module_stack import module_stack
from surgery.observing.observe import tensors
from surgery.operating.modes import restored_modes

_TAG = "_made_by"
_INPUT = -1

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Ran:
    """One operator that ran on data; arguments by the names of its schema."""

    name: str  # ATen base name without the underscores of inplace and private forms
    module: str
    settings: Mapping[str, Any]
    shapes: Mapping[str, Shape]  # of tensor arguments; 1 where a dimension is only expanded
    data: frozenset[str]  # the tensor arguments that depend on the model's inputs
    output: Shape
    reads: frozenset[int]  # the operators that made its arguments


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tells tensors by a mark that each carries, so that none is held; what has no mark does not depend on data."""

    def __init__(self, stack: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stack = stack
        self.ran: list[Ran] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        bound = _bind(func, args, kwargs or {})
        given = {name: value for name, value in bound.items() if tensors(value)}
        data = {name: made for name, value in given.items() if (made := _makers(value))}
        if data:
            for tensor in [*tensors(out), *_written(func, bound)]:
                setattr(tensor, _TAG, len(self.ran))
            self.ran.append(
                Ran(
                    name=func._schema.name.partition("::")[2].strip("_"),
                    module=self.stack[-1] if self.stack else "",
                    settings={name: value for name, value in bound.items() if name not in given},
                    shapes={name: _shape(value) for name, value in given.items() if isinstance(value, Tensor)},
                    data=frozenset(data),
                    output=next((tuple(tensor.shape) for tensor in tensors(out)), ()),
                    reads=frozenset().union(*data.values()),
                )
            )
        return out


def _bind(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    declared = func._schema.arguments
    bound = {argument.name: argument.default_value for argument in declared if argument.has_default_value()}
    return bound | dict(zip((argument.name for argument in declared), args, strict=False)) | dict(kwargs)


def _makers(value: Any) -> frozenset[int]:
    return frozenset(getattr(tensor, _TAG) for tensor in tensors(value) if hasattr(tensor, _TAG))


def _written(func: Any, bound: Mapping[str, Any]) -> list[Tensor]:
    """What the operator changes: its inplace arguments, and the tensors that those are views of."""
    names = [a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    changed = [tensor for name in names for tensor in tensors(bound[name])]
    return changed + [tensor._base for tensor in changed if tensor._base is not None]


def _shape(tensor: Tensor) -> Shape:
    return tuple(1 if step == 0 else size for size, step in zip(tensor.shape, tensor.stride(), strict=True))


def run(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Ran], frozenset[int]]:
    """The operators of one eval-mode forward pass, in order, and which of them made the outputs.

    The model is left as it was, but for what its forward stores; tensors in the arguments are marked.
    """
    for tensor in tensors([args, kwargs]):
        setattr(tensor, _TAG, _INPUT)
    with restored_modes(model), torch.no_grad(), module_stack(model) as stack:
        model.eval()
        with _Recorder(stack) as recorder:
            output = model(*args, **kwargs)
    return recorder.ran, _makers(output)


_MOVES = {
    *("view", "unsafe_view", "reshape_alias", "reshape_copy", "permute", "transpose", "t", "slice", "select", "cat"),
    *("stack", "split", "split_with_sizes", "unbind", "chunk", "unsqueeze", "squeeze", "clone", "expand", "detach"),
    *("alias", "to_copy", "copy", "index", "flatten", "contiguous"),
}


def only_feed_outputs(ran: Sequence[Ran], returned: frozenset[int]) -> list[bool]:
    """Whether what an operator made is part of the outputs and otherwise only moved on the way there."""
    readers: list[list[int]] = [[] for _ in ran]
    for index, operator in enumerate(ran):
        for maker in operator.reads - {_INPUT}:
            readers[maker].append(index)
    ends = [False] * len(ran)
    for index in reversed(range(len(ran))):  # readers come later
        moved = all(ran[reader].name in _MOVES and ends[reader] for reader in readers[index])
        ends[index] = moved and bool(readers[index] or index in returned)
    return ends
