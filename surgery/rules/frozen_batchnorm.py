"""Frozen batch normalization written out in arithmetic becomes one batch normalization operator again."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from surgery.observing.evidence import Evidence
from surgery.operating.verify import difference
from surgery.record import Refusal
from surgery.rule import Example, Promise, Rule
from surgery.rule_parts.channel_norm import FixedBatchNorm
from surgery.rule_parts.norm_axis import without_children

_BUFFERS = ("weight", "bias", "running_mean", "running_var")


class FrozenBatchnorm(Rule):
    """Square roots and products of buffers run for every image; an operator of its own is folded when deployed."""

    name = "frozen_batchnorm"
    promise = Promise.SAME_OUTPUT
    removes = frozenset({"add", "sub", "mul", "rsqrt"})
    emits = frozenset({"native_batch_norm"})

    def examples(self) -> Sequence[Example]:
        """One written out; a batch normalization that is trained stays."""
        shape = (2, 4, 5, 5)
        return [Example(_Written, shape, 1), Example(lambda: nn.BatchNorm2d(4), shape, 0)]

    def matches(self, module: nn.Module) -> bool:
        """By its buffers: the four of a batch normalization, and no parameters."""
        frozen = set(module._buffers) == set(_BUFFERS) and not module._parameters
        return frozen and not isinstance(module, FixedBatchNorm)

    def params(self, module: nn.Module, name: str, evidence: Evidence) -> Mapping[str, Any] | Refusal:
        """The eps, which some write into the formula; tried on random numbers."""
        for eps in (getattr(module, "eps", 1e-5), 1e-5):
            if isinstance(eps, float) and _is_same(module, self.replacement(module, {"eps": eps})):
                return {"eps": eps}
        return Refusal(self.name, name, "it computes something else than batch normalization with its buffers")

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """The same buffers under the same names; what was fused with the layer runs after it."""
        weight, bias, mean, variance = (module._buffers[name] for name in _BUFFERS)
        new = FixedBatchNorm(weight, bias, mean, variance, params["eps"])  # type: ignore[arg-type]
        for key, child in module.named_children():
            new.add_module(key, child)
        return new


def _is_same(old: nn.Module, new: nn.Module) -> bool:
    values = new.running_mean
    assert isinstance(values, Tensor)
    x = torch.randn(2, len(values), 3, 3, generator=torch.Generator().manual_seed(0)).to(values)
    with torch.no_grad():
        try:
            return difference(without_children(old)(x), without_children(new)(x)) < 1e-4
        except Exception:  # it takes another input, or does nothing of the kind
            return False


class _Written(nn.Module):
    """For this file's examples."""

    def __init__(self) -> None:
        super().__init__()
        for name in _BUFFERS:
            self.register_buffer(name, torch.rand(4) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, mean, variance = (self._buffers[name][:, None, None] for name in _BUFFERS)  # type: ignore[index]
        return (x - mean) * (variance + 1e-5).rsqrt() * weight + bias
