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
        missed = targets - inputs @ self.weight.to(inputs.dtype).mT
        variance = targets.var(1, correction=0).sum()
        return float(missed.var(1, correction=0).sum() / variance) if variance > 0 else 0.0


@dataclass(frozen=True)
class Moments:
    """All that a fit needs of samples: their number, means, and products about the means, in float64."""

    count: int
    inputs: Tensor  # (groups, 1, inputs)
    targets: Tensor  # (groups, 1, outputs)
    squares: Tensor  # (groups, inputs, inputs)
    products: Tensor  # (groups, inputs, outputs)

    @classmethod
    def of(cls, inputs: Tensor, targets: Tensor) -> "Moments":
        """Of ``inputs`` (groups, samples, inputs) and ``targets`` (groups, samples, outputs).

        The products are made in the precision of the samples: once the means are out, the ridge is far above what
        float32 loses.
        """
        means = inputs.double().mean(1, keepdim=True), targets.double().mean(1, keepdim=True)
        centred = inputs - means[0].to(inputs.dtype)
        products = centred.mT @ (targets - means[1].to(targets.dtype))
        return cls(inputs.shape[1], *means, (centred.mT @ centred).double(), products.double())

    def __add__(self, other: "Moments") -> "Moments":
        """Of the samples of both (Chan et al. 1979)."""
        count = self.count + other.count
        apart, share = other.inputs - self.inputs, other.count / count
        gap = other.targets - self.targets
        between = self.count * share
        return Moments(
            count,
            self.inputs + share * apart,
            self.targets + share * gap,
            self.squares + other.squares + between * apart.mT @ apart,
            self.products + other.products + between * apart.mT @ gap,
        )


def fit(samples: Moments, weight: Tensor, ridge: float = RIDGE) -> Fit:
    """The minimum over W, b of |X W' + b - Y|^2 / samples + ridge * mean(X^2) * |W - weight|^2 (Hoerl and Kennard
    1970, with the weights there are in place of zero), of centred inputs X and targets Y, from which b follows.

    ``weight`` is (groups, outputs, inputs) in float64.
    """
    held = ridge * samples.squares.diagonal(dim1=1, dim2=2).mean(1)[:, None].expand(-1, weight.shape[2])
    held = held.clamp_min(torch.finfo(held.dtype).tiny ** 0.5)  # inputs that never change: their weights stay
    missed = samples.products - samples.squares @ weight.mT
    fitted = weight + torch.linalg.solve(samples.squares + torch.diag_embed(held), missed).mT
    return Fit(fitted, (samples.targets - samples.inputs @ fitted.mT)[:, 0])
