"""Activations that cost a look-up table or several operators become ReLU."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from surgery.pattern import Match, Pattern
from surgery.rule import Example, Promise, Rule, Stage


class ToRelu(Rule):
    """An activation, written as module, function, method or formula, becomes ReLU."""

    promise = Promise.SAME_SHAPE

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """Not inplace: what follows may need the value for backward."""
        return nn.ReLU()

    def emit(self, graph: fx.Graph, match: Match) -> fx.Node:
        """A call of relu."""
        return graph.call_function(F.relu, (match.variables[0],))

    def label(self) -> str:
        """The function's name."""
        return self.name.replace("_to_", " -> ")

    def examples(self) -> Sequence[Example]:
        """Each type, each way to write it, and a ReLU that stays."""
        modules = [Example(kind, (2, 4, 5, 5), 1) for kind in self.types]
        calls = [Example(_calling(snippet), (2, 4, 5, 5), 1) for snippet in self.snippets()]
        return [*modules, *calls, Example(nn.ReLU, (2, 4, 5, 5), 0)]

    def snippets(self) -> Sequence[Any]:
        """Functions of one tensor that the rule rewrites."""
        return ()


def _calling(snippet: Any) -> Any:
    class Calls(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return snippet(x) + 1  # type: ignore[no-any-return]

    return Calls


class Relu6ToRelu(ToRelu):
    """ReLU6's upper bound costs a clip on devices whose convolutions fuse only ReLU."""

    name = "relu6_to_relu"
    types = (nn.ReLU6,)
    patterns = (Pattern(F.relu6), Pattern(lambda x: F.hardtanh(x, 0.0, 6.0)))

    def snippets(self) -> Sequence[Any]:
        """Function and hardtanh form."""
        return (F.relu6, lambda x: F.hardtanh(x, 0.0, 6.0))


class SiluToRelu(ToRelu):
    """SiLU (Swish), x * sigmoid(x), needs a look-up table or runs as two operators."""

    name = "silu_to_relu"
    types = (nn.SiLU,)
    patterns = (Pattern(F.silu), Pattern(lambda x: x * torch.sigmoid(x)))

    def snippets(self) -> Sequence[Any]:
        """Function, formula both ways round, method."""
        return (F.silu, lambda x: x * torch.sigmoid(x), lambda x: x.sigmoid() * x, lambda x: x.mul(F.sigmoid(x)))


class HardswishToRelu(ToRelu):
    """Hardswish, x * relu6(x + 3) / 6, is listed by few devices and runs as four operators elsewhere."""

    name = "hardswish_to_relu"
    types = (nn.Hardswish,)
    patterns = (
        Pattern(F.hardswish),
        Pattern(lambda x: x * F.hardsigmoid(x)),
        Pattern(lambda x: x * F.relu6(x + 3) / 6),
        Pattern(lambda x: x * (F.relu6(x + 3) / 6)),
    )

    def snippets(self) -> Sequence[Any]:
        """Function and formulas."""
        return (
            F.hardswish,
            lambda x: x * F.hardsigmoid(x),
            lambda x: x * F.relu6(x + 3.0) / 6.0,
            lambda x: (F.relu6(3 + x) / 6) * x,
        )


class HardsigmoidToRelu(ToRelu):
    """A Hardsigmoid outside of a gate (gates go first) is one more table; ReLU keeps its lower bound."""

    name = "hardsigmoid_to_relu"
    stage = Stage.PART  # after Hardswish, x * hardsigmoid(x)
    types = (nn.Hardsigmoid,)
    patterns = (Pattern(F.hardsigmoid), Pattern(lambda x: F.relu6(x + 3) / 6))

    def snippets(self) -> Sequence[Any]:
        """Function and formula."""
        return (F.hardsigmoid, lambda x: F.relu6(x + 3) / 6)


class GeluToRelu(ToRelu):
    """GELU, erf or tanh form, needs a look-up table or a fused pattern that few devices know."""

    name = "gelu_to_relu"
    types = (nn.GELU,)
    patterns = (Pattern(F.gelu),)

    def snippets(self) -> Sequence[Any]:
        """Both forms."""
        return (F.gelu, lambda x: F.gelu(x, approximate="tanh"))


class MishToRelu(ToRelu):
    """Mish, x * tanh(softplus(x)), needs a look-up table or runs as three operators."""

    name = "mish_to_relu"
    types = (nn.Mish,)
    patterns = (Pattern(F.mish), Pattern(lambda x: x * torch.tanh(F.softplus(x))))

    def snippets(self) -> Sequence[Any]:
        """Function and formula."""
        return (F.mish, lambda x: x * torch.tanh(F.softplus(x)))
