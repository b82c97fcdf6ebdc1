"""The inputs that a model is run with to see what it does."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from surgery.errors import PlanMismatch, SurgeryError


@dataclass(frozen=True)
class Example:
    """Positional and keyword arguments of a model's forward."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Any, what: str = "example_inputs") -> "Example | None":
        """A tensor is the only argument, a tuple or list the positional ones, a mapping the keyword ones.

        Raises SurgeryError, which says ``what`` it is, for anything else.
        """
        if given is None or isinstance(given, cls):
            return given
        if isinstance(given, Tensor):
            return cls((given,))
        if isinstance(given, Mapping) and all(isinstance(key, str) for key in given):
            return cls((), dict(given))
        if isinstance(given, list | tuple):
            return cls(tuple(given))
        raise SurgeryError(
            f"{what} is a {type(given).__name__}; give a tensor, a tuple of positional or a dict of keyword inputs"
        )

    def call(self, model: nn.Module) -> Any:
        """What the model returns."""
        return model(*self.args, **self.kwargs)

    def copy(self) -> "Example":
        """The same values in new tensors: some models write into their inputs."""
        return Example(*_clone((self.args, dict(self.kwargs))))

    def doubled(self) -> "Example":
        """Every tensor twice along its first axis: the same images as a larger batch."""
        twice = pytree.tree_map_only(
            Tensor, lambda t: torch.cat([t, t]) if t.ndim else t, (self.args, dict(self.kwargs))
        )
        return Example(*twice)

    def describe(self) -> dict[str, Any]:
        """JSON: shapes and dtypes of tensors, other values as they are. Inverse: ``from_json``."""
        return {"args": _described(self.args), "kwargs": _described(dict(self.kwargs))}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None, device: torch.device) -> "Example | None":
        """Inputs of the same shapes, all zero. Raises PlanMismatch where the description is damaged."""
        if data is None:
            return None
        try:
            return cls(tuple(_made(data["args"], device)), _made(data["kwargs"], device))
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise PlanMismatch(f"the surgery plan's example is damaged: {type(error).__name__}: {error}") from error

    def random(self) -> "Example":
        """Inputs of the same shapes with values between 0 and 1, always the same ones; whole numbers are all 1."""
        generator = torch.Generator().manual_seed(0)

        def drawn(tensor: Tensor) -> Tensor:
            if not tensor.is_floating_point():
                return torch.ones_like(tensor)
            return torch.rand(tensor.shape, generator=generator).to(tensor)

        return Example(*pytree.tree_map_only(Tensor, drawn, (self.args, dict(self.kwargs))))


def _clone(value: Any) -> Any:
    return pytree.tree_map_only(Tensor, lambda t: t.detach().clone(), value)


def _described(value: Any) -> Any:
    if isinstance(value, Tensor):
        return {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, Mapping):
        return {"mapping": {str(key): _described(item) for key, item in value.items()}}
    if isinstance(value, list | tuple):
        return [_described(item) for item in value]
    if isinstance(value, bool | int | float | str | None):
        return value
    raise SurgeryError(f"example_inputs holds a {type(value).__name__}, which a plan cannot describe; use tensors")


def _made(value: Any, device: torch.device) -> Any:
    if isinstance(value, Mapping) and "mapping" in value:
        return {key: _made(item, device) for key, item in value["mapping"].items()}
    if isinstance(value, Mapping):
        return torch.zeros([int(n) for n in value["shape"]], dtype=getattr(torch, value["dtype"]), device=device)
    if isinstance(value, list):
        return [_made(item, device) for item in value]
    return value


def call_with(model: nn.Module, batch: Any) -> Any:
    """What the model returns for one batch of calibration data: a tensor, a tuple of inputs, or a dict of them.

    Raises SurgeryError for anything else.
    """
    example = Example.of(batch, "a calibration batch")
    if example is None:
        raise SurgeryError(
            "a calibration batch is None; give a tensor, a tuple of positional or a dict of keyword inputs"
        )
    return example.call(model)
