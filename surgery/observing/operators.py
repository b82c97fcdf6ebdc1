"""What really runs: the ATen operators that a model's eval-mode forward dispatches, and the module each comes from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from surgery.observing.module_stack import module_stack
from surgery.operating.modes import restored_modes


@dataclass(frozen=True)
class Operator:
    """One dispatched operator; ``inputs`` are its tensors' shapes, ``attributes`` its other arguments in order."""

    name: str  # ATen base name, such as "convolution"
    module: str  # qualified name of the innermost module whose forward was running
    inputs: tuple[tuple[int, ...], ...]
    attributes: tuple[Any, ...]


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, stack: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stack = stack
        self.operators: list[Operator] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        values = [*args, *(kwargs or {}).values()]
        flat = [item for value in values for item in (value if _is_tensors(value) else [value])]
        self.operators.append(
            Operator(
                name=func._schema.name.partition("::")[2],
                module=self.stack[-1] if self.stack else "",
                inputs=tuple(tuple(value.shape) for value in flat if isinstance(value, Tensor)),
                attributes=tuple(value for value in flat if not isinstance(value, Tensor)),
            )
        )
        return out


def _is_tensors(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(item, Tensor) for item in value)


def operators(model: nn.Module, inputs: Sequence[Any]) -> list[Operator]:
    """The operators of one eval-mode forward pass, in order; the model is left as it was."""
    with restored_modes(model), torch.no_grad(), module_stack(model) as stack:
        model.eval()
        recorder = _Recorder(stack)
        with recorder:
            model(*inputs)
    return recorder.operators
