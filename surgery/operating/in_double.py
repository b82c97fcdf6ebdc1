"""What a module returned before edits and returns after, in float64: there rounding is next to nothing."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from surgery.operating.copying import copy_model
from surgery.operating.example import Example
from surgery.operating.undo import Snapshot


def outputs_in_double(model: nn.Module, name: str, before: Snapshot, given: Example) -> tuple[Any, Any]:
    """Of the module of that name, before and after, for what it received. Raises what it raises in float64."""
    after = _output(model.get_submodule(name), given)
    with before.standing(model):
        return _output(model.get_submodule(name), given), after


def _output(module: nn.Module, given: Example) -> Any:
    wide = copy_model(module).double().eval()
    args, kwargs = pytree.tree_map_only(Tensor, _in_double, (given.args, dict(given.kwargs)))
    with torch.no_grad():
        return wide(*args, **kwargs)


def _in_double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor.clone()
