"""How the forward of a training is computed: as its schedule asks, but for what does not work here."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import torch

from zoo.schedule import Schedule

DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class Numerics:
    """Precision, layout and compilation. What is given up on the way is warned of once and stays in ``fell_back``."""

    dtype: torch.dtype | None  # of automatic mixed precision; none: float32 throughout
    memory_format: torch.memory_format
    compiled: bool
    fell_back: list[str] = field(default_factory=list)

    def give_up(self, option: str, instead: str, reason: str) -> None:
        """Say that an option of the schedule is not used, and why."""
        text = f"{option}: {instead} instead: {' '.join(reason.split())[:200]}"
        if text not in self.fell_back:
            self.fell_back.append(text)
            warnings.warn(text, RuntimeWarning, stacklevel=2)

    @property
    def precision(self) -> str:
        """What the forward is computed in."""
        return str(self.dtype or torch.float32).removeprefix("torch.")

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training has to know: what was given up is not tried again."""
        return {"precision": self.precision, "compiled": self.compiled, "fell_back": self.fell_back}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give up what was given up when the state was taken."""
        if state["precision"] == "float32":
            self.dtype = None
        self.compiled &= state["compiled"]
        self.fell_back += [each for each in state["fell_back"] if each not in self.fell_back]

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """What keeps small gradients from vanishing in float16; elsewhere it does nothing."""
        return torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)


def chosen(schedule: Schedule, device: torch.device, own: torch.memory_format, together: int = 1) -> Numerics:
    """What of the schedule can be done on devices of this kind, ``together`` of them; ``own`` is the layout that the
    task has for its model.

    A task that asks for contiguous weights has a reason: a layer that crashes in channels_last.
    """
    layouts = {None: own, True: torch.channels_last, False: torch.contiguous_format}
    numerics = Numerics(DTYPES[schedule.precision], layouts[schedule.channels_last], schedule.compile)
    if reason := _unsupported(schedule.precision, device):
        numerics.dtype = None
        numerics.give_up(f"precision: {schedule.precision}", "float32", reason)
    if schedule.channels_last and own != torch.channels_last:
        numerics.memory_format = own
        numerics.give_up("channels_last", "contiguous", "PyTorch crashes in a layer of this model")
    if schedule.compile and (reason := _changing(schedule, together)):
        numerics.compiled = False
        numerics.give_up("compile", "eager", reason)
    return numerics


def _changing(schedule: Schedule, together: int) -> str:
    """What is done to a forward from outside, which its compiled code would pass over or be compiled for each time."""
    if together > 1:
        return "BatchNorm's statistics are those of all devices, which is done around the forward"
    if schedule.anneal_epochs:
        return "activations change with each iteration"
    if schedule.distillation is not None and schedule.distillation.features:
        return "features are read by hooks"
    return ""


def _unsupported(precision: str, device: torch.device) -> str:
    if precision == "float32":
        return ""
    if not torch.amp.is_autocast_available(device.type):
        return f"{device.type} has no automatic mixed precision"
    if precision == "float16" and device.type == "cpu":
        return "on a CPU it is slower and its gradients overflow"
    lacking = device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
    return f"{torch.cuda.get_device_name(device)} has none" if precision == "bfloat16" and lacking else ""
