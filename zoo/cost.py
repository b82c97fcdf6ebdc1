"""What a model costs: multiply-accumulates and parameters."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """``macs`` are multiply-accumulates for one image: half the floating-point operations that PyTorch counts.

    torch.utils.flop_counter counts convolutions, matrix products and attention; additions, activations and
    normalisation are not in it.
    """

    macs: int
    parameters: int


def cost(model: nn.Module, image: Tensor) -> Cost:
    """The cost of one image (1, C, H, W)."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(image)
    return Cost(counter.get_total_flops() // 2, sum(parameter.numel() for parameter in model.parameters()))
