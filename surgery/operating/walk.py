"""All modules of a model, each once: as ``nn.Module.named_modules`` gives them, without its nested generators."""

from torch import nn


def modules(model: nn.Module) -> list[nn.Module]:
    """In no particular order."""
    seen = {model}
    todo = [model]
    for module in todo:
        for child in module._modules.values():
            if child is not None and child not in seen:
                seen.add(child)
                todo.append(child)
    return todo
