"""What a model does on example inputs: which functions each module's own forward calls, on which tensors."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from surgery.observing.names import canonical, is_inplace
from surgery.observing.parts import DICTS, parts
from surgery.operating.modes import restored_modes


@dataclass(frozen=True)
class Call:
    """One call of a function, operator or tensor method; tensors are told apart by their ``token``.

    Tensors in ``args``, ``kwargs`` and ``output`` that are no parameters are there without their data, on the meta
    device: the intermediate values of a large model do not fit into memory all at once.
    """

    function: str  # canonical name: "sigmoid" for torch.sigmoid, Tensor.sigmoid, Tensor.sigmoid_
    module: str  # qualified name of the module whose own forward made the call
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    inplace: bool  # by argument or by a trailing underscore
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    output: Any = None


@dataclass(frozen=True)
class ModuleRun:
    """What one module received and returned when it last ran; of large models some of it without its data."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any
    count: int  # how often it ran in one forward of the model
    versions: tuple[int, ...] = ()  # of its tensors: they grow when a tensor is written into
    has_inputs: bool = True  # what it received is there with its data
    has_output: bool = True
    held: int = 0  # bytes of the data that are there; tensors that other runs hold too are counted for each

    def is_intact(self) -> bool:
        """Whether all of it is there and nobody has written into what it received, from then on, or returned."""
        if not (self.has_inputs and self.has_output):
            return False
        return self.versions == versions([self.args, dict(self.kwargs), self.output])

    def lightened(self, inputs: bool) -> "ModuleRun":
        """Without the data of its output, and of its inputs."""
        args, kwargs = (light(self.args), light(dict(self.kwargs))) if inputs else (self.args, self.kwargs)
        kept = self.has_inputs and not inputs
        held = _bytes([self.args, dict(self.kwargs)]) if kept else 0
        output = light(self.output)
        return replace(self, args=args, kwargs=kwargs, output=output, has_inputs=kept, has_output=False, held=held)


@dataclass(frozen=True)
class Observation:
    """One eval-mode forward of the model."""

    calls: tuple[Call, ...]
    runs: Mapping[str, ModuleRun]
    output: Any

    def functions(self, inplace_only: bool = False) -> dict[str, set[str]]:
        """Names of the functions that each module's own forward calls."""
        found: dict[str, set[str]] = defaultdict(set)
        for call in self.calls:
            if call.inplace or not inplace_only:
                found[call.module].add(call.function)
        return found

    def by_module(self) -> dict[str, list[Call]]:
        """The calls that each module's own forward made, in order."""
        found: dict[str, list[Call]] = defaultdict(list)
        for call in self.calls:
            found[call.module].append(call)
        return dict(found)

    def users(self, tensor: Tensor) -> list[Call]:
        """The calls that read a tensor."""
        return self._readers.get(token(tensor), [])

    @cached_property
    def _readers(self) -> Mapping[int, list[Call]]:
        readers: dict[int, list[Call]] = defaultdict(list)
        for call in self.calls:
            for read in dict.fromkeys(call.inputs):
                readers[read].append(call)
        return dict(readers)


_SETTINGS = frozenset({int, float, bool, str, type(None), torch.dtype, torch.device, slice})
_tokens: Any = WeakTensorKeyDictionary()
_next_token = count()
_light: Any = WeakTensorKeyDictionary()  # the one without data, of a tensor
_devices: Any = WeakTensorKeyDictionary()  # of what a tensor without data stands for


def token(tensor: Tensor) -> int:
    """A number that this tensor object has and no other one had or will have; the one without data has the same."""
    found = _tokens.get(tensor)
    if found is None:
        found = _tokens[tensor] = next(_next_token)
    return int(found)


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same tensor object, with its data or without."""
    return isinstance(one, Tensor) and isinstance(other, Tensor) and token(one) == token(other)


def device_of(tensor: Tensor) -> torch.device:
    """Where a tensor is, or where the one was that this one without data stands for."""
    return _devices.get(tensor, tensor.device)  # type: ignore[no-any-return]


def is_light(tensor: Tensor) -> bool:
    """Whether a tensor stands for another one, without its data."""
    return tensor in _devices


def light(value: Any) -> Any:
    """The same nested value, intermediate tensors without their data, on the meta device; one for each tensor."""
    if isinstance(value, nn.Parameter):
        return value
    if isinstance(value, Tensor):
        return value if is_light(value) else _without_data(value)
    if value.__class__ in DICTS:  # others may be more than what they hold
        return {key: light(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [light(item) for item in value]
        if hasattr(value, "_fields"):
            return type(value)(*items)
        return tuple(items) if isinstance(value, tuple) else items
    return value


def _without_data(tensor: Tensor) -> Tensor:
    found: Tensor | None = _light.get(tensor)
    if found is None:
        found = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
        _light[tensor], _tokens[found], _devices[found] = found, token(tensor), tensor.device
    return found


class _CallRecorder(TorchFunctionMode):
    def __init__(self, stack: list[str]) -> None:
        super().__init__()
        self.stack = stack
        self.calls: list[Call] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = canonical(func)
        if name not in {"get", "set"}:  # attribute access such as x.shape
            tokens = tuple(map(token, tensors([args, kwargs or {}]))), tuple(map(token, tensors(out)))
            here = self.stack[-1] if self.stack else ""
            inplace = is_inplace(func, kwargs or {})
            args, kwargs, kept = light(args), light(dict(kwargs or {})), light(out)
            self.calls.append(Call(name, here, *tokens, inplace, args, kwargs, kept))
        return out


def tensors(value: Any) -> list[Tensor]:
    """All tensors in nested lists, tuples, mappings and objects, in order."""
    if isinstance(value, Tensor):
        return [value]
    if value.__class__ in _SETTINGS:  # most of what calls are given
        return []
    if isinstance(value, Mapping):
        return [tensor for item in value.values() for tensor in tensors(item)]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in tensors(item)]
    return [item for item in parts(value).values() if isinstance(item, Tensor)]


def _bytes(value: Any) -> int:
    return sum(tensor.nbytes for tensor in tensors(value))


def versions(value: Any) -> tuple[int, ...]:
    """Counters of writes of all tensors in a nested value."""
    return tuple(tensor._version for tensor in tensors(value))


def observe(
    module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], prefix: str = "", room: float = inf
) -> Observation:
    """Run a module in eval mode without gradients and note calls and module inputs; it is left as it was.

    ``prefix`` is the module's own name in its model; names in the result start with it. Runs of modules inside are
    held with their data while they fit into ``room`` bytes, after that without: but for what modules received that
    hold others, from which the rest can be computed again.
    """
    runs: dict[str, ModuleRun] = {}
    left = room
    names = {child: f"{prefix}.{name}".strip(".") for name, child in module.named_modules()}
    entered: list[tuple[int, ...]] = []
    stack: list[str] = []
    handles = []
    for child, name in names.items():

        def enter(child: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
            stack.append(name)
            entered.append(versions([args, kwargs]))

        def leave(child: nn.Module, args: Any, kwargs: Any, output: Any, name: str = name) -> None:
            nonlocal left
            stack.pop()
            before = runs[name].count if name in runs else 0
            written = entered.pop() + versions(output)
            with torch._C.DisableTorchFunction():  # what follows is no call of the model's
                output = _apart(output)
                run = ModuleRun(args, kwargs, output, before + 1, written, held=_bytes([args, kwargs, output]))
                left -= run.held
                crowded = left < 0 and child is not module
                runs[name] = run.lightened(inputs=not child._modules) if crowded else run

        handles.append(child.register_forward_pre_hook(enter, with_kwargs=True, prepend=True))
        handles.append(child.register_forward_hook(leave, with_kwargs=True))
    try:
        with restored_modes(module), torch.no_grad(), _CallRecorder(stack) as recorder:
            module.eval()
            output = module(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return Observation(tuple(recorder.calls), runs, _apart(output))


def _apart(value: Any) -> Any:
    """The same tensors in lists and dicts of their own: the module may hold and empty those that it returned."""
    if value.__class__ is list:
        return [_apart(item) for item in value]
    if value.__class__ in DICTS:
        copied = copy(value)
        copied.update((key, _apart(item)) for key, item in value.items())
        return copied
    return value
