"""A linear layer fitted to given outputs, held near the weights it has."""

from dataclasses import dataclass

import torch
from torch import Tensor

RIDGE = 0.1  # of the mean square of the inputs: how strongly weights are held at what they were


@dataclass(frozen=True)
class Fit:
    """Weights (groups, outputs, inputs) and biases (groups, outputs)."""

    weight: Tensor
    bias: Tensor

    def error(self, inputs: Tensor, targets: Tensor) -> float:
        """Mean square of what is missed, over the variance of the targets; shifts count for nothing.

        ``inputs`` are (groups, samples, inputs), ``targets`` (groups, samples, outputs).
        """
        missed = targets - inputs @ self.weight.mT
        variance = targets.var(1, correction=0).sum()
        return float(missed.var(1, correction=0).sum() / variance) if variance > 0 else 0.0


def fit(inputs: Tensor, targets: Tensor, weight: Tensor, ridge: float = RIDGE) -> Fit:
    """The minimum over W, b of |X W' + b - Y|^2 + ridge * mean(X^2) * |W - weight|^2 (Hoerl and Kennard 1970, with
    the weights there are in place of zero); X and Y are centred first, which gives b.

    ``inputs`` X are (groups, samples, inputs), ``targets`` Y (groups, samples, outputs), ``weight`` (groups, outputs,
    inputs), all float64.
    """
    mean_in, mean_out = inputs.mean(1, keepdim=True), targets.mean(1, keepdim=True)
    centred = inputs - mean_in
    squares = centred.mT @ centred
    held = ridge * squares.diagonal(dim1=1, dim2=2).mean(1)[:, None].expand(-1, squares.shape[1])
    held = held.clamp_min(torch.finfo(held.dtype).tiny ** 0.5)  # inputs that never change: their weights stay
    missed = targets - mean_out - centred @ weight.mT
    fitted = weight + torch.linalg.solve(squares + torch.diag_embed(held), centred.mT @ missed).mT
    return Fit(fitted, (mean_out - mean_in @ fitted.mT)[:, 0])
