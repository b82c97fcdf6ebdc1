"""Let mmyolo be imported without the compiled operators of mmcv: those that are called say that they are missing.

None runs in a forward pass of a detector; they are for what is done with its output, and for losses.
"""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

NAME = "mmcv._ext"


class _Operators(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError(f"mmcv's compiled operator {name} is not installed")

        return missing


def register() -> None:
    """Put the stand-in where mmcv looks for its operators, unless they are there."""
    if NAME not in sys.modules:
        module = _Operators(NAME)
        module.__spec__ = ModuleSpec(NAME, None)
        sys.modules[NAME] = module
