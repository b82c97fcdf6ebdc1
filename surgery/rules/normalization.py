"""Normalizations by each sample's own statistics become batch normalization, which costs nothing when deployed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.instancenorm import _InstanceNorm

from surgery.observing.evidence import Evidence
from surgery.observing.names import behaves_as, dotted
from surgery.observing.observe import tensors
from surgery.record import Edit, Refusal
from surgery.risk import Risk
from surgery.rule import Example, Promise, Rule, submodule
from surgery.rule_parts.channel_norm import ChannelBatchNorm
from surgery.rule_parts.norm_axis import channels, norm_axis
from surgery.rule_parts.norm_fit import Moments, fit, measure
from surgery.rule_parts.operator_names import ARITHMETIC, MEANS, NORMS
from surgery.rule_parts.tied import tied_parameters

# Normalization and activation in one formula, on (N, C, H, W); they are taken apart.
_EVO_NORMS = ("B0", "B1", "B2", "S0", "S0a", "S1", "S1a", "S2", "S2a")
_NORM_AND_ACTIVATION = tuple(f"timm.layers.evo_norm.EvoNorm2d{kind}" for kind in _EVO_NORMS)
_WEIGHTS = ("weight", "gamma", "scale", "g")
_BIASES = ("bias", "beta", "b")


class NormToBatchnorm(Rule):
    """Layer, group, instance and RMS norms need mean and variance of every input; batch normalization is a constant."""

    name = "norm_to_batchnorm"
    promise = Promise.SAME_SHAPE
    risk = Risk.CONSTANT
    removes = NORMS | MEANS | ARITHMETIC
    emits = frozenset({"native_batch_norm", "relu"})
    types = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
    class_names = _NORM_AND_ACTIVATION

    def __init__(self) -> None:
        self._measured: WeakKeyDictionary[Evidence, Mapping[str, Moments]] = WeakKeyDictionary()

    def examples(self) -> Sequence[Example]:
        """Over the last axis and over axis 1, with a fused activation, in an attention; batch normalization stays."""
        maps = (4, 6, 3, 5)
        last = [Example(build, (2, 4, 7, 6), 1) for build in (lambda: nn.LayerNorm(6), lambda: nn.RMSNorm(6))]
        first = [
            Example(build, maps, 1)
            for build in (
                lambda: nn.GroupNorm(1, 6),
                lambda: nn.GroupNorm(3, 6),
                lambda: nn.InstanceNorm2d(6, affine=True),
                lambda: _ChannelsFirst(6),
                lambda: _Fused(6),
            )
        ]
        stays = [Example(lambda: nn.BatchNorm2d(6), maps, 0), Example(lambda: nn.Conv2d(6, 6, 1), maps, 0)]
        return [*last, *first, Example(lambda: nn.LayerNorm([6, 3, 5]), maps, 1), *stays]

    def matches(self, module: nn.Module) -> bool:
        """By type, or by what it does: the output does not change with the scale of the input."""
        return super().matches(module) or norm_axis(module) is not None

    def params(self, module: nn.Module, name: str, evidence: Evidence) -> Mapping[str, Any] | Refusal:
        """What the new layer is; which of its parameters stay those that other modules hold too, where some are."""
        found, tied = self._settings(module, name, evidence), tied_parameters(evidence, module)
        if isinstance(found, Refusal) or not tied:
            return found
        for key, other in tied.items():
            if tuple(module._parameters[key].shape) != (found["channels"],):  # type: ignore[union-attr]
                return Refusal(self.name, name, f"its {key} is tied to that of {other} and has another shape")
        return {**found, "tied": sorted(tied)}

    def _settings(self, module: nn.Module, name: str, evidence: Evidence) -> Mapping[str, Any] | Refusal:
        """Axis and number of channels; whether an activation was part of the formula."""
        axis, count = norm_axis(module), channels(module)
        if dotted(module) in self.class_names:
            return {"axis": 1, "channels": len(module.weight), "relu": _adds_relu(module)}  # type: ignore[arg-type]
        if behaves_as(module, nn.LayerNorm) and axis is None:
            return self._several_axes(module, name, evidence)
        if isinstance(module, _InstanceNorm) and module.running_mean is not None:
            return {"axis": 1, "channels": module.num_features, "relu": False, "tracked": True}
        if axis is None or count is None:
            return Refusal(self.name, name, "its channels are not one axis, the first after the batch or the last")
        if unknown := sorted(set(module._parameters) - {*_WEIGHTS, *_BIASES, "tau"}):
            return Refusal(self.name, name, f"what its parameters {', '.join(unknown)} do is not known")
        return {"axis": axis, "channels": count, "relu": _adds_relu(module)}

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """Affine values carry over; what ran after the old layer inside of it runs after the new one."""
        eps = getattr(module, "eps", None)
        new = ChannelBatchNorm(params["channels"], 1e-5 if eps is None else eps, params["axis"])
        for mine, names in (("weight", _WEIGHTS), ("bias", _BIASES)):
            key = next((key for key in names if module._parameters.get(key) is not None), None)
            old = None if key is None else module._parameters[key]
            if old is not None and key in params.get("tied", ()):
                setattr(new, mine, old)
            elif old is not None:
                values = old.detach().clone().reshape(new.num_features, -1).mean(1)
                setattr(new, mine, nn.Parameter(values, requires_grad=old.requires_grad))
        if isinstance(module, _InstanceNorm) and module.running_mean is not None:
            new.running_mean, new.running_var = module.running_mean.clone(), module.running_var.clone()  # type: ignore[union-attr]
        for key, child in module.named_children():
            new.add_module(key, child)
        if params["relu"]:
            new.add_module("act", nn.ReLU())
        return new

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """As for every rule; what the layers do is measured while they are there."""
        proposals = list(super().propose(model, evidence))
        wanted = [p for p in proposals if isinstance(p, Edit)] if evidence.warm_start.norms else []
        axes = {edit.site: edit.params["axis"] for edit in wanted}
        self._measured[evidence] = measure(evidence, axes) if axes else {}
        yield from proposals

    def apply(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """A new layer in the place of one without parameters is where the model's are."""
        bare = not list(submodule(model, edit.site).parameters())
        super().apply(model, edit, evidence)
        like = next((p for p in model.parameters() if p.is_floating_point()), None) if bare else None
        if like is not None:
            submodule(model, edit.site).to(device=like.device, dtype=like.dtype)

    def warm_start(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """Closest to what the old layer did with calibration data or else with the example inputs."""
        new, seen = submodule(model, edit.site), self._measured.get(evidence, {}).get(edit.site)
        if isinstance(new, ChannelBatchNorm) and seen is not None and not edit.params.get("tracked"):
            fit(new, seen, affine="tied" not in edit.params)

    def _several_axes(self, module: nn.Module, name: str, evidence: Evidence) -> Mapping[str, Any] | Refusal:
        run, shape = evidence.run(name), tuple(module.normalized_shape)  # type: ignore[arg-type]
        seen = tensors([run.args, run.kwargs])[0].ndim if run else 0
        if len(shape) == 3 and seen == 4:
            return {"axis": 1, "channels": shape[0], "relu": False}
        return Refusal(
            self.name, name, f"it normalises over {len(shape)} axes {shape}; which holds channels is not known"
        )


def _adds_relu(module: nn.Module) -> bool:
    """Whether an activation is part of the formula and no layer of its own."""
    formula = dotted(module) in _NORM_AND_ACTIVATION and getattr(module, "apply_act", True)
    return not hasattr(module, "act") and (bool(formula) or module._parameters.get("tau") is not None)


class _ChannelsFirst(nn.LayerNorm):
    """As several libraries write it, for this file's examples."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class _Fused(nn.Module):
    """A normalization written out, and its activation."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(count))
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6) * self.weight[:, None, None]
        return self.act(x)  # type: ignore[no-any-return]
