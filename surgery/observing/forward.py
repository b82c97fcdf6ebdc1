"""A module's own forward, behind what surgery may have put before it, and the arguments that it takes."""

import inspect
from typing import Any

from torch import nn

from surgery.observing.observe import ModuleRun

# What a rewritten module runs in train and in eval mode; see surgery.rewrite.
FORWARD = {True: "_surgery_forward_train", False: "_surgery_forward_eval"}
# Modules that are nothing but a call of the function they are named for; rules match them as modules.
_ONE_CALL = {
    f"torch.nn.modules.{topic}"
    for topic in ("activation", "batchnorm", "conv", "dropout", "instancenorm", "linear", "normalization", "pooling")
} | {"torch.nn.modules.upsampling"}


def arguments(module: nn.Module, run: ModuleRun) -> dict[str, Any]:
    """What the forward's parameters were in that run, defaults included."""
    bound = signature(module).bind(*run.args, **run.kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def signature(module: nn.Module) -> inspect.Signature:
    """Of the author's forward, which a forward that surgery made may hide behind one for each mode."""
    return inspect.signature(getattr(module, FORWARD[module.training], module.forward))


def optional_arguments(module: nn.Module) -> list[str]:
    """Those that most calls leave out: with a proxy in their place, ``is None`` would be decided wrong."""
    parameters = signature(module).parameters.values()
    return [parameter.name for parameter in parameters if parameter.default is not parameter.empty]


def is_one_call(module: nn.Module) -> bool:
    """Whether its forward does nothing but call the function that the module is named for."""
    return type(module).__module__ in _ONE_CALL
