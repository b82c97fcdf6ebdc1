"""Before export, a batch normalization becomes part of the layer whose output it normalises."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from surgery.observing.evidence import Evidence
from surgery.observing.names import behaves_as, is_named
from surgery.observing.observe import Observation, is_same, tensors, token
from surgery.record import Edit, Refusal
from surgery.rule import Example, Promise, Rule, Stage, replace_module, submodule
from surgery.rule_parts.channel_norm import ChannelBatchNorm, FixedBatchNorm
from surgery.rule_parts.operator_names import BATCHNORM

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, *_TRANSPOSED)
# Subclasses with a forward of their own that use the same weights in the same way.
_ALIKE = {
    "timm.layers.conv2d_same.Conv2dSame",
    *(f"mmcv.cnn.bricks.wrappers.{name}" for name in ("Conv2d", "Conv3d", "ConvTranspose2d", "Linear")),
}
_WITH_CHILDREN = "timm.layers.norm_act.BatchNormAct2d"


class FoldBatchnorm(Rule):
    """In eval mode y = a x + d is part of the weights and bias before it: for export, not for training."""

    name = "fold_batchnorm"
    promise = Promise.SAME_OUTPUT
    removes = BATCHNORM
    emits = frozenset({"convolution"})
    stage = Stage.CLEANUP
    default = False

    def examples(self) -> Sequence[Example]:
        """After convolutions and linear layers; not where the convolution is read twice, or after a pool."""
        shape = (2, 4, 6, 6)
        after = [
            Example(lambda: nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), _measured(6)), shape, 1),
            Example(lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), _measured(6)), shape, 1),
            Example(lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, 2, groups=2), _measured(6)), shape, 1),
        ]
        last = lambda: nn.Sequential(nn.Linear(6, 5), ChannelBatchNorm(5, axis=-1))  # noqa: E731
        pool = lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.AvgPool2d(2), nn.BatchNorm2d(4))  # noqa: E731
        return [*after, Example(last, shape, 1), Example(pool, shape, 0), Example(_Twice, shape, 0)]

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Each batch normalization with running statistics."""
        observation = evidence.observation()
        for name, module in evidence.modules():
            if not _is_affine(module):
                continue
            into = "" if observation is None else _producer(name, module, evidence, observation)
            if isinstance(into, Refusal):
                yield into
            elif into:
                yield self.edit(name, f"folded into {into}", {"into": into})
            else:
                yield Refusal(self.name, name, "without example inputs it is not known what comes before it")

    def apply(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """Give the layer new weights and a bias; the normalization becomes an identity, or what was fused with it."""
        norm, layer = submodule(model, edit.site), submodule(model, edit.params["into"])
        if not _is_affine(norm) or not _has_weights(layer):
            raise LookupError(f"{edit.site} is no batch normalization after {edit.params['into']}")
        _fold(norm, layer)
        children = dict(norm.named_children())
        rest = nn.Sequential()
        for key, child in children.items():
            rest.add_module(key, child)
        replace_module(model, norm, rest if children else nn.Identity())


def _is_affine(module: nn.Module) -> bool:
    plain = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, ChannelBatchNorm)
    known = any(behaves_as(module, kind) for kind in plain) or is_named(module, {_WITH_CHILDREN})
    measured = isinstance(module, _BatchNorm) and known and module.running_mean is not None
    return measured or isinstance(module, FixedBatchNorm)


def _has_weights(layer: nn.Module) -> bool:
    known = any(behaves_as(layer, kind) for kind in _LAYERS) or is_named(layer, _ALIKE)
    return known and not parametrize.is_parametrized(layer) and layer._parameters.get("weight") is not None


def _producer(name: str, norm: nn.Module, evidence: Evidence, observation: Observation) -> str | Refusal:
    """The layer that this normalization alone reads."""

    def refuse(reason: str) -> Refusal:
        return Refusal(FoldBatchnorm.name, name, reason)

    run = observation.runs.get(name)
    if run is None or run.count != 1:
        return refuse("it never ran" if run is None else f"it runs {run.count} times, on values of several layers")
    given = tensors([run.args, run.kwargs])[0]
    made = [call.module for call in observation.calls if token(given) in call.outputs]
    if not made or not _has_weights(layer := submodule(evidence.model, made[0])):
        return refuse("its input is not the output of a convolution or a linear layer")
    if observation.runs[made[0]].count != 1:
        return refuse(f"{made[0]} runs {observation.runs[made[0]].count} times")
    if any(m._forward_hooks or m._forward_pre_hooks for m in (norm, layer)):
        return refuse(f"it or {made[0]} has forward hooks, which may read or change the values in between")
    readers = [call for call in observation.users(given) if call.module != name and token(given) not in call.outputs]
    kept = any(is_same(tensor, given) for tensor in tensors(observation.output))
    if readers or kept or not is_same(observation.runs[made[0]].output, given):
        return refuse(f"the output of {made[0]} is read elsewhere too")
    used = [call for call in observation.users(layer.weight) if call.module != made[0]]  # type: ignore[arg-type]
    if used or _shares(evidence, layer):
        return refuse(f"the weights of {made[0]} are shared")
    last = getattr(norm, "axis", 1) == -1 or given.ndim == 2
    if isinstance(layer, nn.Linear) != last:
        return refuse(f"it normalises another axis than the one that {made[0]} makes")
    return made[0]


def _shares(evidence: Evidence, layer: nn.Module) -> bool:
    own = {id(p) for p in layer.parameters()}
    return any(id(p) in own for _, m in evidence.modules() if m is not layer for p in m._parameters.values())


def _fold(norm: Any, layer: Any) -> None:
    """W <- W s and b <- (b - mean) s + beta, with s = gamma / sqrt(variance + eps), for each output channel."""
    weight, bias = layer.weight.detach(), layer.bias
    scale = (norm.running_var.detach() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach()
    shift = (-norm.running_mean.detach() if bias is None else bias.detach() - norm.running_mean.detach()) * scale
    if norm.bias is not None:
        shift = shift + norm.bias.detach()
    trained = layer.weight.requires_grad
    layer.weight = nn.Parameter(_scaled(layer, weight, scale).to(weight.dtype), requires_grad=trained)
    layer.bias = nn.Parameter(shift.to(weight.dtype), requires_grad=trained if bias is None else bias.requires_grad)


def _scaled(layer: Any, weight: Tensor, scale: Tensor) -> Tensor:
    rest = [1] * (weight.ndim - 2)
    if isinstance(layer, _TRANSPOSED):  # (in, out / groups, ...), the inputs ordered by group
        grouped = weight.reshape(layer.groups, -1, *weight.shape[1:])
        return (grouped * scale.view(layer.groups, 1, -1, *rest)).reshape(weight.shape)
    return weight * scale.view(-1, 1, *rest)


def _measured(count: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(count)
    for values, low in ((norm.running_mean, -1.0), (norm.running_var, 0.5), (norm.weight, -1.0), (norm.bias, -1.0)):
        assert values is not None
        nn.init.uniform_(values, low, 1.5)
    return norm


class _Twice(nn.Module):
    """A convolution that something else reads too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), _measured(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y) + torch.relu(y)  # type: ignore[no-any-return]
