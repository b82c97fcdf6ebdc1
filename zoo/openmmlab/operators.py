"""What stands in for ``mmcv._ext``, the compiled operators that mmcv-lite comes without.

mmdet and mmyolo cannot be imported where that module is missing. None of its operators runs in the forward pass of a
detector that the zoo builds; non-maximum suppression, which its predictions need, is torchvision's here.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

NAME = "mmcv._ext"


class Operators(ModuleType):
    """A module with every name: those that are not here raise NotImplementedError when they are called."""

    def __getattr__(self, name: str) -> "Callable[..., NoReturn]":
        if name.startswith("__"):  # what Python asks of any module
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")

        def missing(*args: object, **kwargs: object) -> NoReturn:
            raise NotImplementedError(
                f"mmcv's compiled operator '{name}' is not installed; install mmcv in place of mmcv-lite, or use a "
                "config that does without it"
            )

        return missing


def register() -> None:
    """Put the stand-in where mmcv looks for its operators, unless the real ones are installed or it is there."""
    if NAME in sys.modules or _is_installed():
        return
    module = Operators(NAME)
    module.__spec__ = ModuleSpec(NAME, None)
    vars(module)["nms"] = nms
    sys.modules[NAME] = module


def nms(boxes: "Tensor", scores: "Tensor", iou_threshold: float, offset: int) -> "Tensor":
    """Indices of the boxes that no box with a higher score overlaps by more than the threshold, best first.

    Of equal scores the first comes first. ``boxes`` are (N, 4) corners x1, y1, x2, y2, ``scores`` (N,). With
    ``offset=1`` the corners are pixels that belong to the box, so that it is x2 - x1 + 1 wide.
    """
    from torchvision.ops import nms as suppress

    kept: Tensor = suppress(boxes + boxes.new_tensor([0, 0, offset, offset]), scores, iou_threshold)
    return kept


def _is_installed() -> bool:
    """Whether mmcv has its operators, without importing it."""
    package = find_spec("mmcv")
    return package is not None and PathFinder.find_spec(NAME, package.submodule_search_locations) is not None
