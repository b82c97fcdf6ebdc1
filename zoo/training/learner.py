"""The model as mmengine's Runner trains it."""

from collections.abc import Callable
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.model import BaseModel
from torch import Tensor, nn

Objective = Callable[[nn.Module, Any], Tensor]  # the model being trained, a batch -> the loss


class Learner(BaseModel):  # type: ignore[misc]  # mmengine has no types
    """A model with its objective; the weights are in ``student``.

    The objective may hold further models, such as a teacher: being no module, it adds nothing to the weights that are
    optimised, averaged and saved.
    """

    def __init__(self, student: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.student = student
        self.objective = objective

    def forward(self, batch: Any, mode: str = "loss") -> dict[str, Tensor]:
        """The loss of a batch; the runner validates by other means, so that there is no other mode."""
        if mode != "loss":
            raise ValueError(f"mode '{mode}': a learner only computes its loss")
        return {"loss": self.objective(self.student, batch)}

    def _run_forward(self, data: Any, mode: str) -> dict[str, Tensor]:
        return self.forward(data, mode)

    def init_weights(self) -> None:
        """Nothing: the runner would call ``init_weights`` of any module that has one, and lose the weights given."""


def accelerator() -> torch.device:
    """Where the runner trains."""
    return torch.device(get_device())
