"""The model as mmengine's Runner trains it: one call is one step of the optimizer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.model import BaseModel
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.training import devices
from zoo.training.batchnorm import SharedStatistics
from zoo.training.numerics import Numerics
from zoo.training.stepping import Stepping

Objective = Callable[[nn.Module, Any], Tensor]  # the model being trained, a batch -> the loss


class Learner(BaseModel):  # type: ignore[misc]  # mmengine has no types
    """A model with its objective; the weights are in ``student``.

    The objective may hold further models, such as a teacher: being no module, it adds nothing to the weights that are
    optimised, averaged and saved. A batch is taken in ``parts``, each with the weight of its images. ``compiled`` names
    what of the student torch.compile takes where the numerics say so; "" is all of it.
    """

    def __init__(
        self, student: nn.Module, objective: Objective, numerics: Numerics, parts: int = 1, compiled: str = ""
    ) -> None:
        super().__init__()
        self.student = student
        self.objective = objective
        self.numerics = numerics
        self.parts = parts
        self.compiled = compiled
        self.is_tried = False

    def forward(self, batch: Any, mode: str = "loss") -> Tensor:
        """The loss of a part of a batch; the runner validates by other means, so that there is no other mode."""
        if mode != "loss":
            raise ValueError(f"mode '{mode}': a learner only computes its loss")
        dtype = self.numerics.dtype
        kind = next(self.student.parameters()).device.type
        with (
            torch.autocast(kind, dtype) if dtype else nullcontext(),
            SharedStatistics() if devices.count() > 1 else nullcontext(),
        ):
            return self.objective(self.student, batch)

    def train_step(self, data: Any, optim_wrapper: Stepping) -> dict[str, Tensor]:
        """Change the weights by a step; the mean loss of the batch, over all devices."""
        batch = self._laid_out(self.data_preprocessor(data, True))
        parts = _split(batch, self.parts)
        if not self.is_tried:
            self._try_out(parts[0])
        losses = []
        for part in parts:
            loss = self(part) * (_images(part) / _images(batch))
            optim_wrapper.backward(loss)
            losses.append(loss.detach())
        optim_wrapper.step()
        return {"loss": devices.mean(torch.stack(losses).sum())}

    def init_weights(self) -> None:
        """Nothing: the runner would call ``init_weights`` of any module that has one, and lose the weights given."""

    def release(self) -> None:
        """Leave a student that is called as it was before it was compiled."""
        self.student.get_submodule(self.compiled)._compiled_call_impl = None  # nn.Module.compile has no reverse

    def _laid_out(self, batch: Any) -> Any:
        """The batch with its images in the weights' layout."""
        if isinstance(batch, tuple | list):
            return type(batch)(self._laid_out(each) for each in batch)
        if isinstance(batch, Tensor) and batch.ndim == 4:
            return batch.contiguous(memory_format=self.numerics.memory_format)
        return batch

    def _try_out(self, part: Any) -> None:
        """Find out, without a trace in weights, statistics and random numbers, whether what is asked for works."""
        self.is_tried = True
        if self.numerics.dtype is not None and (fact := self._failure(part)):
            asked, self.numerics.dtype = self.numerics.precision, None
            self.numerics.give_up(f"precision: {asked}", "float32", fact)
        if self.numerics.compiled:
            self.student.get_submodule(self.compiled).compile()
            if fact := self._failure(part):
                self.release()
                self.numerics.compiled = False
                self.numerics.give_up("compile", "eager", fact)

    def _failure(self, part: Any) -> str:
        with _without_a_trace(self.student):
            try:
                self(part).backward()
            except ZooError:
                raise
            except Exception as error:  # compilers and kernels fail in any way
                return " ".join(str(error).split()) or type(error).__name__
        return ""


def accelerator() -> torch.device:
    """Where the runner trains."""
    return torch.device(get_device())


def _split(batch: Any, parts: int) -> list[Any]:
    """The batch as so many of the same structure, each tensor divided along its first axis."""
    if parts == 1:
        return [batch]
    if isinstance(batch, Tensor):
        return list(batch.chunk(parts))
    return [type(batch)(each) for each in zip(*(_split(part, parts) for part in batch), strict=True)]


def _images(batch: Any) -> int:
    return len(batch) if isinstance(batch, Tensor) else _images(batch[0])


@contextmanager
def _without_a_trace(model: nn.Module) -> Iterator[None]:
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    device = next(model.parameters()).device
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        for name, buffer in model.named_buffers():
            if name in before:
                buffer.copy_(before[name])
        model.zero_grad(set_to_none=True)
