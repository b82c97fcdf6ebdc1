"""Constants per channel, which gates leave behind, become part of the layer before or after them."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from surgery.observing.evidence import Evidence
from surgery.observing.names import behaves_as
from surgery.observing.observe import Call, Observation, is_same, token
from surgery.observing.parts import parts
from surgery.record import Edit, Refusal
from surgery.rule import Example, Promise, Rule, Stage, replace_module, submodule


class ChannelScale(nn.Module):
    """Multiplies each channel of (N, C, H, W) by a learned constant.

    With a ``shape`` of (R, C) the input is (N, R, C, H, W), with ``last`` it is (N, H, W, C).
    """

    def __init__(self, *shape: int, value: float = 1.0, last: bool = False) -> None:
        super().__init__()
        self.last = last
        self.scale = nn.Parameter(torch.full(shape, value))

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as ``input``, which is what torch's own layers call it."""
        return input * (self.scale if self.last else self.scale[..., None, None])

    def extra_repr(self) -> str:
        """The shape of the constants."""
        return ", ".join(map(str, self.scale.shape))


class FoldChannelScale(Rule):
    """A constant per channel is part of the weights of the convolution that alone reads it, or of the convolution
    or BatchNorm that it alone reads.

    An edit names the BatchNorm that alone reads the convolution, for ``surgery.lengthen``.
    """

    name = "fold_channel_scale"
    promise = Promise.SAME_OUTPUT
    removes = frozenset({"mul"})
    follows = True
    stage = Stage.FOLD

    def examples(self) -> Sequence[Example]:
        """Before and after plain and grouped convolutions, after BatchNorm; not between activations."""
        before = lambda: nn.Sequential(nn.ReLU(), _random_scale(4), nn.Conv2d(4, 3, 3, padding=1))  # noqa: E731
        grouped = lambda: nn.Sequential(_random_scale(4), nn.Conv2d(4, 6, 3, groups=2))  # noqa: E731
        after = lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), _random_scale(6), nn.ReLU())  # noqa: E731
        norm = lambda: nn.Sequential(nn.BatchNorm2d(4), _random_scale(4), nn.Sigmoid())  # noqa: E731
        alone = lambda: nn.Sequential(_random_scale(4), nn.ReLU())  # noqa: E731
        shape = (2, 4, 5, 5)
        normed = lambda: nn.Sequential(_random_scale(4), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))  # noqa: E731
        folded = [Example(build, shape, 1) for build in (before, grouped, after, norm, normed)]
        return [*folded, Example(alone, shape, 0)]

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Each ChannelScale that is alone with a layer before or after it."""
        for name, module in evidence.modules():
            if not isinstance(module, ChannelScale):
                continue
            observation = evidence.observation()
            if observation is None:
                yield Refusal(self.name, name, "without example inputs it is not known what reads it")
                continue
            into, reason = _next_layer(model, name, observation)
            before = None if into else _layer_before(model, name, observation)
            if into:
                norm = _norm_behind(model, into, observation)
                kept = {"norm": norm} if norm else {}
                yield self.edit(name, f"folded into {into}", {"into": into, "side": "after", **kept})
            elif before:
                yield self.edit(name, f"folded into {before}", {"into": before, "side": "before"})
            else:
                yield Refusal(self.name, name, reason)

    def apply(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """Scale the layer's weights; the scale becomes an identity."""
        scale, layer = submodule(model, edit.site), submodule(model, edit.params["into"])
        if not isinstance(scale, ChannelScale) or not isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
            raise LookupError(f"{edit.site} is no ChannelScale beside a convolution or BatchNorm")
        factors = scale.scale.detach()
        if isinstance(layer, nn.Conv2d) and edit.params["side"] == "after":
            by_group = factors.view(layer.groups, 1, -1)  # input channels of each group
            weight = layer.weight.detach().view(layer.groups, -1, *layer.weight.shape[1:])
            _set(layer, "weight", (weight * by_group[..., None, None]).view_as(layer.weight))
        else:
            _set(layer, "weight", layer.weight.detach() * factors.view(-1, *[1] * (layer.weight.ndim - 1)))
            if layer.bias is not None:
                _set(layer, "bias", layer.bias.detach() * factors)
        replace_module(model, scale, nn.Identity())


def _set(layer: nn.Module, name: str, value: Tensor) -> None:
    old = getattr(layer, name)
    setattr(layer, name, nn.Parameter(value, requires_grad=old.requires_grad))


def _norm_behind(model: nn.Module, name: str, observation: Observation) -> str:
    """The BatchNorm, with the statistics that it keeps, that alone reads the product that a layer computes; or ""."""
    products = [call for call in observation.calls if call.module == name and call.function == "conv2d"]
    output = products[0].output if len(products) == 1 else None
    users = observation.users(output) if isinstance(output, Tensor) else []
    readers = [call for call in users if call.outputs]  # not those that ask for its number of dimensions
    is_returned = any(is_same(output, part) for part in parts(observation.output).values())
    if is_returned or len(readers) != 1 or readers[0].function != "batch_norm":
        return ""
    reader = readers[0].module
    norm = model.get_submodule(reader)
    keeps = isinstance(norm, _BatchNorm) and norm.running_mean is not None and norm.running_var is not None
    calls = [call for call in observation.calls if call.module == reader and call.function == "batch_norm"]
    is_near = name.rpartition(".")[0] == reader.rpartition(".")[0]  # else somebody may read what is between them
    return reader if keeps and len(calls) == 1 and is_near else ""


def _next_layer(model: nn.Module, name: str, observation: Observation) -> tuple[str, str]:
    """The convolution that alone reads the scale, or "" and why there is none."""
    run = observation.runs.get(name)
    if run is None:
        return "", "it did not run on the example inputs"
    if not _is_of_map(model.get_submodule(name)):
        return "", "its channels are not those of a map that a convolution reads"
    readers = [call for call in observation.users(run.output) if call.outputs != (token(run.output),)]
    if len(readers) != 1:
        return "", f"its output is read {len(readers)} times"
    (reader,) = readers
    convolves = isinstance(model.get_submodule(reader.module), nn.Conv2d)
    if run.count != 1 or not convolves or not _runs_plainly(model, reader.module, observation):
        return "", f"{reader.function} reads it, not a convolution of its own"
    return reader.module, ""


def _layer_before(model: nn.Module, name: str, observation: Observation) -> str:
    """The convolution or BatchNorm whose output the scale alone reads, or ""."""
    run = observation.runs.get(name)
    if (
        run is None
        or run.count != 1
        or not _is_of_map(model.get_submodule(name))
        or len(observation.users(run.args[0])) != 1
    ):
        return ""
    maker = next((call for call in observation.calls if token(run.args[0]) in call.outputs), None)
    if maker is None or maker.module not in observation.runs:
        return ""
    layer, made = model.get_submodule(maker.module), observation.runs[maker.module]
    affine = behaves_as(layer, nn.BatchNorm2d) and layer.weight is not None
    convolves = isinstance(layer, nn.Conv2d) and maker.function == "conv2d"
    same = is_same(made.output, run.args[0])
    fits = (affine or convolves) and same and _runs_plainly(model, maker.module, observation)
    return maker.module if fits else ""


def _is_of_map(scale: nn.Module) -> bool:
    """Whether its channels are those of (N, C, H, W)."""
    return isinstance(scale, ChannelScale) and not scale.last and scale.scale.ndim == 1


def _runs_plainly(model: nn.Module, name: str, observation: Observation) -> bool:
    """Whether a layer runs once, and a convolution with its weight as it is, which nothing else has."""
    layer = model.get_submodule(name)
    names = [n for n, p in model.named_parameters(remove_duplicate=False) if any(p is q for q in layer.parameters())]
    if observation.runs[name].count != 1 or len(names) != len(list(layer.parameters())):
        return False
    used = [_weight(call) for call in observation.calls if call.module == name and call.function == "conv2d"]
    return not isinstance(layer, nn.Conv2d) or (len(used) == 1 and used[0] is layer.weight)


def _weight(call: Call) -> Tensor | None:
    weight = call.kwargs.get("weight", call.args[1] if len(call.args) > 1 else None)
    return weight if isinstance(weight, Tensor) else None


def _random_scale(channels: int) -> ChannelScale:
    scale = ChannelScale(channels)
    nn.init.uniform_(scale.scale, 0.1, 1.0)
    return scale
