"""What modules inside another one receive, when the outer one is run for them alone."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from surgery.observing.nesting import outer_names
from surgery.observing.observe import ModuleRun
from surgery.operating.example import Example
from surgery.operating.modes import restored_modes


class _Received(BaseException):
    """Stops a forward where all is known; no ``except Exception`` of a model's catches it."""


def holding(name: str, runs: Mapping[str, ModuleRun]) -> str:
    """The innermost module around another one whose inputs are held; those of the whole model always are."""
    return next(outer for outer in reversed(outer_names(name)) if outer in runs and runs[outer].has_inputs)


def received_inside(
    module: nn.Module, given: Example, inside: Mapping[str, nn.Module], once: bool
) -> dict[str, Example]:
    """What the modules ``inside``, by any name, receive the last time that they run in eval mode, as copies.

    ``once`` says that each runs once, so that what comes after the last of them need not run. Those that do not run are
    not in the result. Raises what the module raises.
    """
    seen: dict[str, Example] = {}
    handles = []
    for name, child in inside.items():

        def enter(child: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
            seen[name] = Example(args, kwargs).copy()
            if once and len(seen) == len(inside):
                raise _Received

        handles.append(child.register_forward_pre_hook(enter, with_kwargs=True, prepend=True))
    try:
        with restored_modes(module), torch.no_grad():
            given.call(module.eval())
    except _Received:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return seen
