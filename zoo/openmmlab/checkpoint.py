"""Checkpoints as mmengine's Runner writes them, read without running what a pickle may hold.

Beside the weights there are settings, the names of classes and the history of every logged number; the last are
mmengine's HistoryBuffer objects around NumPy arrays. Exactly these are let through; of mmengine nothing runs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import weight_files
from zoo.errors import IntegrityError, WeightsMismatch

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Checkpoint:
    """The weights to deploy, by name, and what the classes are called, if it says."""

    state: "dict[str, Tensor]"
    labels: tuple[str, ...] | None


def read(file: Path, what: str) -> Checkpoint:
    """A checkpoint, or a bare state_dict, on the CPU.

    Where the training kept an exponential moving average, the Runner has stored that as the weights; older files hold
    it beside them as well, under names that begin with ``ema_``. Raises IntegrityError, naming ``what``, where the
    file holds anything else.
    """
    import torch

    try:
        with torch.serialization.safe_globals(_history()):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # what is damaged shows as anything, down to a failed assertion
        reason = weight_files.reason(error)
        raise IntegrityError(f"{what}: {file} holds no plain weights ({reason}); delete it and build again") from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise IntegrityError(f"{what}: {file} holds no state_dict; name a checkpoint that mmengine wrote")
    weights = {name.removeprefix("module."): value for name, value in state.items() if not name.startswith("ema_")}
    return Checkpoint(weights, _labels(content.get("meta")))


def require_fit(state: "dict[str, Tensor]", model: "nn.Module", what: str) -> None:
    """Raises WeightsMismatch, naming the first differences, where weights are not the model's in names and shapes.

    Constants that the model computes for itself, and that were stored once, are removed from ``state``.
    """
    own = model.state_dict()
    for name, _ in model.named_buffers():
        if name not in own:
            state.pop(name, None)
    shapes = [
        f"{name} is {_shape(state[name])}, not {_shape(tensor)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    missing = [f"missing {name}" for name in own if name not in state]
    unknown = [f"unknown {name}" for name in state if name not in own]
    if differences := [*shapes, *missing, *unknown]:
        raise WeightsMismatch(
            f"{what} belong to another model: {len(differences)} tensors differ ({', '.join(differences[:3])}); "
            "name the checkpoint of this one"
        )


def _shape(tensor: "Tensor") -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _labels(meta: Any) -> tuple[str, ...] | None:
    """From what the training dataset said of itself; its key has been written in two ways."""
    described = meta.get("dataset_meta") if isinstance(meta, Mapping) else None
    if not isinstance(described, Mapping):
        return None
    classes = described.get("classes") or described.get("CLASSES")
    if isinstance(classes, str):
        return (classes,)
    return tuple(map(str, classes)) if classes and isinstance(classes, list | tuple) else None


class _SetAside:
    """In the place of an object that is not needed: holds what the file says of it."""


def _left_out(*_: object) -> None:
    """In the place of a function that the file names, here those that a HistoryBuffer takes from itself."""


def _history() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What a HistoryBuffer's pickle names; NumPy 1 wrote its functions under another module's name than NumPy 2."""
    import numpy as np

    functions: list[Any] = [
        (value.__reduce__()[0], f"numpy.{core}.multiarray.{name}")
        for value, name in ((np.empty(0), "_reconstruct"), (np.float64(), "scalar"))
        for core in ("core", "_core")
    ]
    dtypes = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32)]
    inert = [(_SetAside, "mmengine.logging.history_buffer.HistoryBuffer"), (_left_out, "builtins.getattr")]
    return [np.ndarray, np.dtype, *functions, *dtypes, *inert]
