"""Activations that hand on a share of what is below zero, for devices whose convolutions fuse only ReLU."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from surgery.patterns.pattern import CallPattern
from surgery.rule import Example
from surgery.rules.activation import ToRelu


class LeakyReluToRelu(ToRelu):
    """LeakyReLU is one operator on most devices; an option for those whose convolutions fuse only ReLU."""

    name = "leaky_relu_to_relu"
    removes = frozenset({"leaky_relu"})
    default = False
    types = (nn.LeakyReLU,)
    patterns = (CallPattern("leaky_relu"),)

    def snippets(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """Functions."""
        return (F.leaky_relu, lambda x: F.leaky_relu(x, 0.1))


class PReluToRelu(ToRelu):
    """PReLU is one operator on most devices; an option for those whose convolutions fuse only ReLU."""

    name = "prelu_to_relu"
    removes = frozenset({"_prelu_kernel", "prelu"})
    default = False
    types = (nn.PReLU,)
    class_names = ("timm.layers.activations.PReLU",)
    patterns = (CallPattern("prelu"),)

    def examples(self) -> Sequence[Example]:
        """Module and function with a parameter of the forward's own; a ReLU stays."""

        class Parameter(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.slope = nn.Parameter(torch.full((4,), 0.25))

            def forward(self, x: Tensor) -> Tensor:
                return F.prelu(x, self.slope) * self.slope[:, None, None]

        return [*super().examples(), Example(Parameter, (2, 4, 5, 5), 1)]
