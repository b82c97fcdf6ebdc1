"""The blocks of a lite model that can be compared with those of its source."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from surgery.operating.modes import restored_modes

CONTAINERS = nn.Sequential | nn.ModuleList


def blocks(lite: nn.Module, source: nn.Module, images: Tensor) -> tuple[str, ...]:
    """Names of modules that run once in both models and give one tensor of the same shape, no one inside another, in
    the order in which they run; the whole model, "", last where that holds for it.

    They are what stands in a Sequential or a ModuleList, such as the residual blocks of a stage.
    """
    gave, lite_gave = _shapes(source, images), _shapes(lite, images)
    modules = dict(lite.named_modules())
    found: list[str] = []
    for name, module in modules.items():
        if not name or isinstance(module, CONTAINERS) or any(name.startswith(f"{other}.") for other in found):
            continue
        stands_in = isinstance(modules[name.rpartition(".")[0]], CONTAINERS)
        if stands_in and name in gave and gave[name] == lite_gave.get(name) and _learns(module):
            found.append(name)
    order = {name: at for at, name in enumerate(lite_gave)}
    whole = [""] if "" in gave and gave[""] == lite_gave.get("") else []
    return tuple(sorted(found, key=lambda name: order[name])) + tuple(whole)


def _learns(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _shapes(model: nn.Module, images: Tensor) -> dict[str, tuple[int, ...]]:
    """Of what each module gives that runs once and gives one tensor, in the order in which they end."""
    shapes: dict[str, tuple[int, ...]] = {}
    runs: Counter[str] = Counter()
    handles = []
    for name, module in model.named_modules():

        def leave(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
            runs[name] += 1
            if isinstance(output, Tensor):
                shapes[name] = tuple(output.shape)

        handles.append(module.register_forward_hook(leave))
    try:
        with restored_modes(model), torch.no_grad():
            model.eval()(images)
    finally:
        for handle in handles:
            handle.remove()
    return {name: shape for name, shape in shapes.items() if runs[name] == 1}
