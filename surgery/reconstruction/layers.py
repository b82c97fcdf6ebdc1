"""Which layers of a lite model can be fitted to what they gave in the source, and which cannot and why."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn
from torch.nn.utils import parametrize

from surgery.observing.names import behaves_as

Layer = nn.Conv2d | nn.Linear
LARGEST = 4608  # inputs of one output, as 3x3 pixels of 512 channels: the cost grows with their third power


@dataclass(frozen=True)
class Unfitted:
    """A layer that stays as it is."""

    layer: str
    reason: str


def fittable(lite: nn.Module, source: nn.Module) -> tuple[dict[str, Layer], list[Unfitted]]:
    """Convolutions and linear layers that both models have by the same name, in the lite model; those left and why."""
    others, uses = dict(source.named_modules()), _uses(lite)
    layers: dict[str, Layer] = {}
    left = []
    for name, layer in lite.named_modules():
        if not isinstance(layer, Layer):
            continue
        other = others.get(name)
        if not isinstance(other, Layer):
            left.append(Unfitted(name, "the source has no such layer"))
        elif reason := _reason(layer, other, uses):
            left.append(Unfitted(name, reason))
        else:
            layers[name] = layer
    return layers, left


def is_plain(layer: Layer) -> bool:
    """Whether it does what torch's own layer does; of others it has to be measured."""
    return behaves_as(layer, nn.Linear if isinstance(layer, nn.Linear) else nn.Conv2d)


def _uses(model: nn.Module) -> Mapping[int, int]:
    """How many modules have each parameter, by its id."""
    return Counter(id(p) for module in model.modules() for p in module._parameters.values() if p is not None)


def _reason(layer: Layer, other: Layer, uses: Mapping[int, int]) -> str:
    weight, before = layer.weight, other.weight
    if parametrize.is_parametrized(layer) or id(weight) not in uses:
        return "its weight is computed"
    if uses[id(weight)] > 1:
        return "it shares its weight with another layer"
    if weight.shape[0] != before.shape[0]:
        return f"the source's has {before.shape[0]} outputs, this one {weight.shape[0]}"
    if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
        return "its padding is not a number of zeros"
    if weight[0].numel() > LARGEST:
        return f"each output has {weight[0].numel()} inputs, at most {LARGEST} are fitted"
    return ""
