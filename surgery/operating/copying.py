"""A copy of a model to operate on, and the models that cannot be operated on."""

from collections import OrderedDict
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy

from surgery.errors import SurgeryError


def copy_model(model: nn.Module) -> nn.Module:
    """A deep copy. Tensors that a forward computed and left on a module are copied without their history.

    Raises SurgeryError where ``model`` is no eager module whose forward can be changed, or cannot be copied.
    """
    if reason := why_not(model):
        raise SurgeryError(reason)
    memo: dict[int, Any] = {id(t): t.detach().clone() for t in _computed(model)}
    memo |= {id(hooks): OrderedDict() for hooks in _without_hooks(model)}
    try:
        return deepcopy(model, memo)
    except Exception as error:  # user classes may refuse in any way
        raise SurgeryError(f"the model cannot be copied: {type(error).__name__}: {error}") from error


def why_not(model: Any) -> str | None:
    """Why a model cannot be operated on, or None."""
    if isinstance(model, torch.export.ExportedProgram):
        return "the model is already exported: apply surgery to the eager model, then export"
    if not isinstance(model, nn.Module):
        return f"surgery takes a torch.nn.Module, not a {type(model).__name__}"
    if isinstance(model, torch.jit.ScriptModule):
        return "the model is scripted: apply surgery to the eager model, then script"
    if hasattr(model, "_orig_mod"):
        return "the model is compiled: apply surgery to the eager model (its _orig_mod), then compile"
    for name, module in model.named_modules():
        kind: Any = type(module)
        where = f"its layer {name!r}" if name else "the model"
        if isinstance(module, torch.jit.ScriptModule):
            return f"{where} is scripted: apply surgery to the eager model, then script"
        if isinstance(module, fx.GraphModule) and _is_exported(module):
            return f"{where} is already exported: apply surgery to the eager model, then export"
        if prepared := _prepared(kind):
            return f"{where} {prepared}: apply surgery to the float model, then prepare and quantize"
        if ".quantized" in type(module).__module__:
            return f"{where} is quantized ({type(module).__name__}): apply surgery to the float model, then quantize"
        own = [*module._parameters.values(), *module._buffers.values()]
        if any(tensor is not None and is_lazy(tensor) for tensor in own):
            return f"{where} is lazy and has no shape yet: run the model once, then apply surgery"
        if any(tensor is not None and tensor.is_quantized for tensor in own):
            return f"{where} holds quantized tensors: apply surgery to the float model, then quantize"
    return None


@cache
def _prepared(kind: Any) -> str | None:
    """What a module does in a model that is prepared for quantization; by name, for there are two libraries."""
    if ".ao.nn." in kind.__module__ and ".qat" in kind.__module__:
        return f"is prepared for quantization ({kind.__name__})"
    names = {base.__name__ for base in kind.__mro__}
    if "FakeQuantizeBase" in names:
        return f"imitates quantization ({kind.__name__})"
    return f"observes for quantization ({kind.__name__})" if "ObserverBase" in names else None


def _is_exported(module: fx.GraphModule) -> bool:
    return any(isinstance(node.target, torch._ops.OpOverload) for node in module.graph.nodes)


def _without_hooks(model: nn.Module) -> Iterator[Any]:
    """Every module has a dozen of these, and deepcopy takes more time for them than for all else."""
    for module in model.modules():
        yield from (held for held in vars(module).values() if type(held) is OrderedDict and not held)


def _computed(model: nn.Module) -> Iterator[Tensor]:
    """Tensors with a history among the attributes of modules: deepcopy refuses them."""
    for module in model.modules():
        held = [value for key, value in vars(module).items() if key != "_modules"]
        for value in held:
            items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
            yield from (item for item in items if isinstance(item, Tensor) and not item.is_leaf)
