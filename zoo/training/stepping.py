"""One step of the optimizer: gradients of all devices averaged, clipped, and applied once."""

from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor

from zoo.schedule import Schedule
from zoo.training import devices

LEAST_SCALE = 2.0**-10  # of a loss; below that it is not the scale that its gradients are not finite of


class Stepping(OptimWrapper):  # type: ignore[misc]  # mmengine has no types
    """The optimizer as the runner calls it. Losses are scaled where the precision needs it (Micikevicius et al. 2018,
    section 3.2): a step whose gradients overflow is left out, and the scale halved."""

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: Schedule, scaler: torch.amp.GradScaler) -> None:
        clipping = None if schedule.max_grad_norm is None else {"max_norm": schedule.max_grad_norm}
        super().__init__(optimizer, clip_grad=clipping)
        self.scaler = scaler

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Add the gradients of a part of the batch."""
        torch.autograd.backward(self.scaler.scale(loss), **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Apply the gradients and forget them."""
        parameters = [each for group in self.optimizer.param_groups for each in group["params"]]
        devices.average_gradients(parameters)
        self.scaler.unscale_(self.optimizer)
        if self.clip_grad_kwargs:
            self._clip_grad()
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()
        self.zero_grad()

    @property
    def is_lost(self) -> bool:
        """Whether step after step is left out, on all devices alike, because no scale makes gradients finite."""
        return self.scaler.is_enabled() and self.scaler.get_scale() < LEAST_SCALE

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's, and the scale of the losses."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What ``state_dict`` gave, perhaps where losses were not scaled."""
        self.optimizer.load_state_dict(state_dict["optimizer"])
        if self.scaler.is_enabled() and state_dict["scaler"]:
            self.scaler.load_state_dict(state_dict["scaler"])
