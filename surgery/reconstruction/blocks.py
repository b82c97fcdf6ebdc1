"""The blocks of a lite model that can be compared with those of its source."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from surgery.operating.modes import restored_modes

CONTAINERS = nn.Sequential | nn.ModuleList
FEW = 10  # the weights of a model over those of blocks that do not stand for it


def blocks(lite: nn.Module, source: nn.Module, images: Tensor) -> tuple[str, ...]:
    """Names of modules that run once in both models and give one tensor of the same shape, no one inside another, in
    the order in which they run; the whole model, "", last where that holds for it.

    They are what stands in a Sequential or a ModuleList, such as the residual blocks of a stage; where that holds less
    than a tenth of the weights, as in timm's RegNet, whose stages are modules of its own, the model's children too.
    """
    gave, lite_gave = _shapes(source, images), _shapes(lite, images)
    modules = dict(lite.named_modules())
    agree = [name for name in modules if name in gave and gave[name] == lite_gave.get(name) and _learns(modules[name])]
    single = [name for name in agree if name and not isinstance(modules[name], CONTAINERS)]
    standing = {name for name in single if isinstance(modules[name.rpartition(".")[0]], CONTAINERS)}
    found = _outermost(name for name in single if name in standing)
    if FEW * sum(_weights(modules[name]) for name in found) < _weights(lite):
        found = _outermost(name for name in single if name in standing or "." not in name)
    order = {name: at for at, name in enumerate(lite_gave)}
    whole = [""] if "" in agree else []
    return tuple(sorted(found, key=lambda name: order[name])) + tuple(whole)


def _outermost(names: Iterable[str]) -> list[str]:
    """Of names in the order of ``named_modules``, those that are inside no other."""
    found: list[str] = []
    for name in names:
        if not any(name.startswith(f"{other}.") for other in found):
            found.append(name)
    return found


def _weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


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
