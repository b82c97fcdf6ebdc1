"""Anti-aliased pools: a blur with a fixed filter, written as a plain depthwise convolution."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from surgery.observing.evidence import Evidence
from surgery.record import Refusal
from surgery.rule import Example, Promise, Rule
from surgery.rule_parts.operator_names import CONVOLUTION
from surgery.rule_parts.pool_windows import pair
from surgery.rules.average_pooling import FixedConv2d

PADS: Mapping[str, type[nn.Module]] = {
    "reflect": nn.ReflectionPad2d,
    "replicate": nn.ReplicationPad2d,
    "circular": nn.CircularPad2d,
}


class _Blur(nn.Module):
    """A blur pool (Zhang 2019, section 3.2) with a binomial filter, for this file's examples."""

    filt: Tensor

    def __init__(self, channels: int | None, pad_mode: str) -> None:
        super().__init__()
        self.channels, self.stride, self.pad_mode, self.padding = channels, 2, pad_mode, [1] * 4
        row = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("filt", torch.outer(row, row).expand(channels or 1, 1, 3, 3).clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.filt.expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, self.padding, self.pad_mode), weight, stride=self.stride, groups=x.shape[1])


class PlainBlurPool(Rule):
    """A blur pool spreads its filter over the channels when it runs; devices want a convolution with constants."""

    name = "plain_blur_pool"
    promise = Promise.SAME_OUTPUT
    removes = CONVOLUTION | {"constant_pad_nd", "expand"}
    emits = frozenset({"convolution"})
    types = (_Blur,)
    class_names = ("timm.layers.blur_pool.BlurPool2d",)

    def examples(self) -> Sequence[Example]:
        """All pads, channels known or not; an average pool stays."""
        return [
            Example(lambda: _Blur(3, "reflect"), (2, 3, 7, 8), 1),
            Example(lambda: _Blur(None, "replicate"), (2, 3, 7, 8), 1),
            Example(lambda: _Blur(None, "constant"), (2, 3, 7, 8), 1),
            Example(lambda: nn.AvgPool2d(2), (2, 3, 7, 8), 0),
        ]

    def params(self, module: nn.Module, name: str, evidence: Evidence) -> Mapping[str, Any] | Refusal:
        """The number of channels, of the module or of what it received."""
        channels: Any = module.channels
        if channels is not None:
            return {"channels": channels}
        run = evidence.run(name)
        if run is None:
            return Refusal(self.name, name, "the number of channels is not known without a run on example inputs")
        received = next(iter([*run.args, *run.kwargs.values()]))
        return {"channels": received.shape[1]}

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """A pad and a convolution with the module's filter; a pad of zeros is the convolution's own."""
        weight: Tensor = module.get_buffer("filt").expand(int(params["channels"]), -1, -1, -1)
        stride = pair(module.stride)  # type: ignore[arg-type]
        left, right, top, bottom = module.padding  # type: ignore[misc]
        if module.pad_mode == "constant" and (left, top) == (right, bottom):
            return FixedConv2d(weight, stride, (top, left))
        kind = nn.ZeroPad2d if module.pad_mode == "constant" else PADS[str(module.pad_mode)]
        return nn.Sequential(kind((left, right, top, bottom)), FixedConv2d(weight, stride, (0, 0)))
