"""What a small accelerator runs badly or not at all, among the operators that a model's forward really dispatches.

Modules' names say nothing here: an operator counts where it runs. Operators on weights alone are constants to an
exporter and do not count, nor does an activation whose result reaches the model's outputs only by being moved around.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from surgery.observing.module_stack import module_stack
from surgery.observing.observe import tensors
from surgery.operating.modes import restored_modes

LARGEST_KERNEL = 5
LARGEST_POOL = 3
TRANSPOSED = {(2, 2), (4, 2), (3, 2)}  # kernel and stride

_TAG = "_made_by"
_INPUT = -1

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Fault:
    """An unfriendly operator that ran."""

    module: str  # qualified name of the innermost module whose forward was running
    module_class: str
    operator: str  # for people: "convolution 7x7"


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


def unfriendly(model: nn.Module, inputs: Sequence[Any]) -> list[Fault]:
    """The unfriendly operators of one eval-mode forward pass, in order; the model is left as it was."""
    ran, returned = _run(model, inputs)
    ends = _only_feed_outputs(ran, returned)
    found = []
    for index, operator in enumerate(ran):
        if what := _fault(operator, ends[index]):
            module = model.get_submodule(operator.module)
            found.append(Fault(operator.module, type(module).__name__, what))
    return found


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


def _run(model: nn.Module, inputs: Sequence[Any]) -> tuple[list[Ran], frozenset[int]]:
    marked = [value.clone() if isinstance(value, Tensor) else value for value in inputs]
    for tensor in tensors(marked):
        setattr(tensor, _TAG, _INPUT)
    with restored_modes(model), torch.no_grad(), module_stack(model) as stack:
        model.eval()
        with _Recorder(stack) as recorder:
            output = model(*marked)
    return recorder.ran, _makers(output)


_MOVES = {
    *("view", "unsafe_view", "reshape_alias", "reshape_copy", "permute", "transpose", "t", "slice", "select", "cat"),
    *("stack", "split", "split_with_sizes", "unbind", "chunk", "unsqueeze", "squeeze", "clone", "expand", "detach"),
    *("alias", "to_copy", "copy", "index", "flatten", "contiguous"),
}


def _only_feed_outputs(ran: Sequence[Ran], returned: frozenset[int]) -> list[bool]:
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


_ACTIVATIONS = {
    *("sigmoid", "silu", "hardsigmoid", "hardswish", "gelu", "mish", "hardtanh", "elu", "celu", "selu", "softplus"),
    *("tanh", "erf", "log_sigmoid", "log_sigmoid_forward"),
}
_NORMALIZATIONS = {
    *("native_layer_norm", "native_group_norm", "fused_rms_norm", "rms_norm", "var_mean", "var", "std_mean", "std"),
    "rsqrt",
}
_ATTENTION = ("scaled_dot_product", "native_multi_head_attention", "transformer_encoder_layer")
_SHUFFLES = {"pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle"}


def _fault(ran: Ran, ends: bool) -> str | None:
    if ran.name in _ACTIVATIONS:
        return None if ends else ran.name
    if ran.name in _NORMALIZATIONS or ran.name in _SHUFFLES:
        return ran.name
    if ran.name.startswith(_ATTENTION):
        return "fused attention"
    check = next((check for start, check in _CHECKS.items() if ran.name.startswith(start)), None)
    return check(ran) if check else None


def _convolution(ran: Ran) -> str | None:
    kernel = ran.shapes["weight"][2:]
    stride = _each(ran.settings["stride"], kernel)
    name = f"{'transposed ' if ran.settings['transposed'] else ''}convolution {_times(kernel)} stride {_times(stride)}"
    if ran.settings["transposed"]:
        fine = all(pair in TRANSPOSED for pair in zip(kernel, stride, strict=True)) or set(kernel) == {1}
        return None if fine and len(set(kernel)) == 1 else name
    return name if max(kernel, default=1) > LARGEST_KERNEL and kernel != stride else None


def _max_pool(ran: Ran) -> str | None:
    kernel = tuple(ran.settings["kernel_size"])
    return f"max pool {_times(kernel)}" if max(kernel) > LARGEST_POOL else None


def _average_pool(ran: Ran) -> str | None:
    kernel = tuple(ran.settings["kernel_size"])
    whole = _each(kernel, ran.shapes["self"][2:]) == ran.shapes["self"][2:] and set(ran.output[2:]) == {1}
    return None if whole or max(kernel) <= LARGEST_POOL else f"average pool {_times(kernel)}"


def _adaptive_pool(ran: Ran) -> str | None:
    size = tuple(ran.settings["output_size"])
    return None if set(size) == {1} else f"{ran.name} to {_times(size)}"


def _resize(ran: Ran) -> str | None:
    before, after = ran.shapes["self"][2:], ran.output[2:]
    if "bicubic" in ran.name or ran.name.endswith("_aa") or ran.settings.get("align_corners"):
        corners = " align_corners" if ran.settings.get("align_corners") else ""
        return f"{ran.name}{corners}"
    whole = all(new % old == 0 for old, new in zip(before, after, strict=True))
    return None if whole else f"{ran.name} {_times(before)} to {_times(after)}"


def _gate(ran: Ran) -> str | None:
    """A feature map times one factor per image and channel, either made from data; channels first or last."""
    if not {"self", "other"} <= ran.data:
        return None
    one, two = ran.shapes["self"], ran.shapes["other"]
    scales = _scales(one, two) or _scales(two, one)
    return "gate" if scales else None


def _scales(gate: Shape, x: Shape) -> bool:
    if len(gate) != len(x) or len(x) < 4 or gate[0] != x[0] or max(gate[1:]) == 1:
        return False
    first = gate[-2:] == (1, 1) and max(x[-2:]) > 1 and gate[-3] == x[-3]
    last = len(x) == 4 and gate[1:3] == (1, 1) and max(x[1:3]) > 1 and gate[3] == x[3]
    return first or last


def _softmax(ran: Ran) -> str | None:
    dimensions = len(ran.shapes["self"])
    return None if ran.settings["dim"] % dimensions == dimensions - 1 else f"softmax on axis {ran.settings['dim']}"


def _instance_norm(ran: Ran) -> str | None:
    """Batch norm by the statistics of the data itself: instance norm and its kin."""
    training = ran.settings.get("training", ran.settings.get("train", False))
    return "normalization by its own statistics" if training and "input" in ran.data else None


_CHECKS: dict[str, Callable[[Ran], str | None]] = {
    "convolution": _convolution,
    "max_pool": _max_pool,
    "avg_pool": _average_pool,
    "adaptive_": _adaptive_pool,
    "upsample_": _resize,
    "mul": _gate,
    "softmax": _softmax,
    "native_batch_norm": _instance_norm,
}


def _each(value: Sequence[int] | int, like: Sequence[int]) -> Shape:
    given = (value,) if isinstance(value, int) else tuple(value)
    return given * len(like) if len(given) == 1 else given


def _times(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))
