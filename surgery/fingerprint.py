"""A structural fingerprint: equal for models that are built alike, whatever their weights' values."""

import hashlib
import json
from typing import Any

from torch import Tensor, nn

from surgery.operating.rewrite import original_class, rewritten_code

Scalar = (bool, int, float, str, type(None))


def _setting(value: Any) -> Any:
    """The value as JSON when it is a plain setting (kernel_size, eps, ...), else a marker that it is none."""
    if isinstance(value, Scalar):
        return value
    if isinstance(value, tuple | list) and all(isinstance(item, Scalar) for item in value):
        return list(value)
    return ...


def _tensor(tensor: Tensor | None) -> Any:
    lazy = type(tensor).__name__.startswith("Uninitialized")
    return None if tensor is None else ["lazy" if lazy else list(tensor.shape), str(tensor.dtype)]


def _module(module: nn.Module) -> dict[str, Any]:
    settings = {k: _setting(v) for k, v in vars(module).items() if not k.startswith("_") and k != "training"}
    return {
        "class": original_class(type(module)).__qualname__,
        "forward": rewritten_code(module),
        "settings": {k: v for k, v in sorted(settings.items()) if v is not ...},
        "parameters": {k: _tensor(v) for k, v in module._parameters.items()},
        "buffers": {k: _tensor(v) for k, v in module._buffers.items()},
    }


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over names, classes, settings, tensor shapes and rewritten forwards of all modules, sharing included."""
    first: dict[int, str] = {}
    structure: dict[str, Any] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        shared = first.setdefault(id(module), name)
        structure[name] = _module(module) if shared == name else {"same as": shared}
    text = json.dumps(structure, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
