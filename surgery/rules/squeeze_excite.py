"""Squeeze-excite gates: global pooling, two small layers and a broadcast product that break a model into subgraphs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from surgery.evidence import Evidence
from surgery.record import Edit, Refusal
from surgery.rule import Example, Promise, Rule, Stage, replace_module, submodule


class ChannelScale(nn.Module):
    """Multiplies each channel of (N, C, H, W) by a learned constant."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as ``input``, which is what torch's own layers call it."""
        return input * self.scale[:, None, None]

    def extra_repr(self) -> str:
        """The number of channels."""
        return str(len(self.scale))


class _Gate(nn.Module):
    """A squeeze-excite gate (Hu et al. 2018, section 3), for this file's examples."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(torch.relu(self.down(x.mean((2, 3), keepdim=True)))))


class SqueezeExcite(Rule):
    """A gate becomes its mean over the calibration data, one constant per channel; without data, an identity."""

    name = "squeeze_excite"
    promise = Promise.SAME_SHAPE
    stage = Stage.BLOCK
    types = (_Gate,)
    class_names = ("torchvision.ops.misc.SqueezeExcitation",)

    def examples(self) -> Sequence[Example]:
        """Between two layers; a convolution alone stays."""
        build = lambda: nn.Sequential(nn.Conv2d(3, 4, 1), _Gate(4), nn.Conv2d(4, 2, 1))  # noqa: E731
        return [Example(build, (2, 3, 5, 5), 1), Example(lambda: nn.Conv2d(3, 4, 1), (2, 3, 5, 5), 0)]

    def params(self, module: nn.Module, name: str, evidence: Evidence) -> Mapping[str, Any] | Refusal:
        """The number of channels where gates can be measured."""
        if evidence.calibration is None:
            return {}
        sites = [other for other, m in evidence.model.named_modules() if self.matches(m)]
        gates = evidence.mean_gates(sites)
        return {"channels": len(gates[name])} if name in gates else {}

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """A ChannelScale like the gate's own parameters, or Identity."""
        if "channels" not in params:
            return nn.Identity()
        like = next(module.parameters())
        return ChannelScale(int(params["channels"])).to(device=like.device, dtype=like.dtype)

    def warm_start(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """The measured mean gate."""
        new = model.get_submodule(edit.site)
        if isinstance(new, ChannelScale):
            with torch.no_grad():
                new.scale.copy_(evidence.mean_gates([edit.site])[edit.site])


class FoldChannelScale(Rule):
    """A constant per channel before a convolution is part of its weights: W[:, c] * s[c]."""

    name = "fold_channel_scale"
    promise = Promise.SAME_OUTPUT
    stage = Stage.FOLD

    def examples(self) -> Sequence[Example]:
        """Before plain and grouped convolutions; not where something else reads the value too."""
        plain = lambda: nn.Sequential(_random_scale(4), nn.Conv2d(4, 3, 3, padding=1))  # noqa: E731
        grouped = lambda: nn.Sequential(_random_scale(4), nn.Conv2d(4, 6, 3, groups=2))  # noqa: E731
        no_conv = lambda: nn.Sequential(_random_scale(4), nn.ReLU())  # noqa: E731
        return [Example(plain, (2, 4, 5, 5), 1), Example(grouped, (2, 4, 5, 5), 1), Example(no_conv, (2, 4, 5, 5), 0)]

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Each ChannelScale whose only reader is a convolution."""
        for name, module in model.named_modules():
            if isinstance(module, ChannelScale):
                into = _only_reader(model, name, evidence)
                if isinstance(into, Refusal):
                    yield into
                else:
                    yield self.edit(name, f"folded into {into}", {"into": into})

    def apply(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """Scale the convolution's weights; the scale becomes an identity."""
        scale, conv = submodule(model, edit.site), submodule(model, edit.params["into"])
        if not isinstance(scale, ChannelScale) or not isinstance(conv, nn.Conv2d):
            raise LookupError(f"{edit.site} is no ChannelScale before a convolution")
        factors = scale.scale.detach().view(conv.groups, 1, -1)  # by group and input channel of the group
        with torch.no_grad():
            weight = conv.weight.view(conv.groups, -1, *conv.weight.shape[1:])
            weight.mul_(factors[..., None, None])
        replace_module(model, scale, nn.Identity())


def _only_reader(model: nn.Module, name: str, evidence: Evidence) -> str | Refusal:
    observation, run = evidence.observation(), evidence.run(name)
    if observation is None or run is None:
        return Refusal(FoldChannelScale.name, name, "without example inputs it is not known what reads it")
    readers = [call for call in observation.users(run.output) if call.outputs != (id(run.output),)]
    if len(readers) != 1:
        return Refusal(FoldChannelScale.name, name, f"its output is read {len(readers)} times")
    reader = model.get_submodule(readers[0].module)
    if not isinstance(reader, nn.Conv2d) or evidence.run(readers[0].module).count != 1 or run.count != 1:  # type: ignore[union-attr]
        return Refusal(FoldChannelScale.name, name, f"{readers[0].function} reads it, not a convolution of its own")
    return readers[0].module


def _random_scale(channels: int) -> ChannelScale:
    scale = ChannelScale(channels)
    nn.init.uniform_(scale.scale, 0.1, 1.0)
    return scale
