"""Modules that gate their input: squeeze-excite and kin, told by what they do."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from surgery.observing.evidence import Evidence
from surgery.observing.observe import device_of, tensors
from surgery.operating.rewrite import original_class
from surgery.record import Edit, Refusal
from surgery.risk import Risk
from surgery.rule import Example, Promise, Rule, Stage, replace_module, submodule
from surgery.rule_parts.gates import find_and_measure, mean_gate
from surgery.rule_parts.operator_names import GATE
from surgery.rules.channel_scale import ChannelScale

# What is known to gate its input, for surgery without example inputs.
_KNOWN = (
    "torchvision.ops.misc.SqueezeExcitation",
    *("timm.layers.squeeze_excite.SEModule", "timm.layers.squeeze_excite.EffectiveSEModule"),
    *("timm.models._efficientnet_blocks.SqueezeExcite", "timm.models.senet.SEModule"),
    *("timm.layers.eca.EcaModule", "timm.layers.eca.CecaModule"),
    *("mmcv.cnn.bricks.se_layer.SELayer", "mmdet.models.layers.se_layer.SELayer"),
    *("mmdet.models.layers.se_layer.ChannelAttention", "mmyolo.models.layers.yolo_bricks.EffectiveSELayer"),
)


class _Gate(nn.Module):
    """A squeeze-excite gate (Hu et al. 2018, section 3), for this file's examples."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(torch.relu(self.down(x.mean((2, 3), keepdim=True)))))


class SqueezeExcite(Rule):
    """A module that multiplies its input by a gate, one factor per image and channel or per place, becomes the
    gate's mean over the calibration data, one constant per channel; without data, or where the warm start leaves
    gates out, an identity."""

    name = "squeeze_excite"
    promise = Promise.SAME_SHAPE
    risk = Risk.CONSTANT
    removes = GATE
    emits = frozenset({"mul"})
    stage = Stage.BLOCK
    class_names = _KNOWN

    def examples(self) -> Sequence[Example]:
        """Between two layers; a convolution alone stays."""
        build = lambda: nn.Sequential(nn.Conv2d(3, 4, 1), _Gate(4), nn.Conv2d(4, 2, 1))  # noqa: E731
        return [Example(build, (2, 3, 5, 5), 1), Example(lambda: nn.Conv2d(3, 4, 1), (2, 3, 5, 5), 0)]

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Modules that were seen to gate; without example inputs, the known classes."""
        found = {gate.module: gate for gate in find_and_measure(evidence) if gate.whole}
        for name, module in evidence.modules():
            if name not in found and not self.matches(module):
                continue
            if not name:
                yield Refusal(self.name, name, "the model itself is this layer; put it into a Sequential")
                continue
            measured = name in found and evidence.calibration is not None and evidence.warm_start.gates
            kind = original_class(type(module)).__name__
            params: dict[str, Any] = {"class": kind}
            if measured:
                gate = found[name]
                params |= {"shape": list(gate.shape), "last": gate.last, "index": gate.index}
            yield self.edit(name, f"{kind} -> {'mean gate' if measured else 'Identity'}", params)

    def apply(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """Put the constants, or nothing, in its place."""
        module = submodule(model, edit.site)
        kind = original_class(type(module)).__name__
        if kind != edit.params["class"]:
            raise LookupError(f"{edit.site} is a {kind}, not a {edit.params['class']}")
        new = self.replacement(module, edit.params)
        run = evidence.run(edit.site)
        example = next(iter([*tensors(run.output if run else ()), *module.parameters()]), None)
        replace_module(model, module, new if example is None else new.to(device_of(example), example.dtype))

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """A ChannelScale, or Identity."""
        return ChannelScale(*params["shape"], last=params["last"]) if "shape" in params else nn.Identity()

    def warm_start(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """The measured mean gate."""
        new = model.get_submodule(edit.site)
        if isinstance(new, ChannelScale):
            mean = mean_gate(evidence, edit.site, edit.params["index"])
            if mean is not None:
                with torch.no_grad():
                    new.scale.copy_(mean)
