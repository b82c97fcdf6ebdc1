"""Layers that compute their weight, or how to pad, anew in each forward."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.overrides import TorchFunctionMode

from surgery.errors import one_line
from surgery.observing.evidence import Evidence
from surgery.observing.names import canonical
from surgery.operating.copying import copy_model
from surgery.record import Edit, Refusal
from surgery.rule import Example, Promise, Rule, Stage, submodule
from surgery.rule_parts.operator_names import ARITHMETIC, MEANS
from surgery.rule_parts.plain_convolution import (
    CONV2D,
    Pair,
    Sides,
    both,
    is_plain,
    padded,
    plain,
    plain_linear,
    sides_of,
    with_settings_of,
)
from surgery.rule_parts.tied import tied_to
from surgery.rule_parts.tiles import LARGEST


class SamePad2d(nn.Module):
    """Zeros around (N, C, H, W) so that a convolution after it gives ceil(H / stride) rows, as TensorFlow's "SAME"."""

    def __init__(self, kernel_size: Pair, stride: Pair, dilation: Pair) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.dilation = kernel_size, stride, dilation

    def forward(self, input: Tensor) -> Tensor:
        """How much, depends on the size; of an odd number the larger half comes last."""
        return F.pad(input, self.amount(input.shape[-2], input.shape[-1]).padding())

    def amount(self, height: int, width: int) -> Sides:
        """The padding of an image of that size."""
        return Sides.of(self._axis(height, 0), self._axis(width, 1))

    def _axis(self, size: int, axis: int) -> Pair:
        kernel, stride, dilation = self.kernel_size[axis], self.stride[axis], self.dilation[axis]
        total = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
        return total // 2, total - total // 2

    def extra_repr(self) -> str:
        """Of the convolution."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, dilation={self.dilation}"


class FoldComputedWeights(Rule):
    """A weight or a padding that a forward computes each time is work on the device; stored, it is none."""

    name = "fold_computed_weights"
    promise = Promise.SAME_OUTPUT
    removes = MEANS | ARITHMETIC | {"_weight_norm_interface", "constant_pad_nd"}
    emits = frozenset({"convolution"})
    stage = Stage.BLOCK

    def examples(self) -> Sequence[Example]:
        """Standardised, reparametrised and padded as TensorFlow does; plain layers stay."""
        shape = (2, 4, 9, 8)
        weight_norm = nn.utils.parametrizations.weight_norm
        return [
            Example(partial(_Standardised, 4, 4, 3, padding=1, groups=2), shape, 1),
            Example(partial(_Same, 4, 4, 3), shape, 1),
            Example(partial(_Same, 4, 4, 7, stride=2), shape, 1),
            Example(lambda: weight_norm(nn.Conv2d(4, 4, 3)), shape, 1),
            Example(partial(_Same, 4, 4, 3, stride=2), shape, 0),
            Example(partial(nn.Conv2d, 4, 4, 3), shape, 0),
        ]

    def matches(self, module: nn.Module) -> bool:
        """A forward of its own, or a weight that is no parameter."""
        own = isinstance(module, nn.Conv2d | nn.Linear) and not is_plain(module, nn.Conv2d, nn.Linear)
        return own or parametrize.is_parametrized(module) or bool(_weight_hooks(module))

    def propose(self, model: nn.Module, evidence: Evidence) -> Iterator[Edit | Refusal]:
        """Where a weight is computed, or a padding: one for every size, or one that keeps a kernel from being split."""
        for name, module in evidence.modules():
            if not self.matches(module):
                continue
            if (what := _computed(module)) is None:
                continue
            if isinstance(what, str):
                yield Refusal(self.name, name, what)
            elif not name:
                yield Refusal(self.name, name, "the model itself is this layer; put it into a Sequential")
            elif (tied := tied_to(evidence, module)) is not None:
                yield Refusal(self.name, name, tied)
            else:
                new = " + ".join(type(m).__name__ for m in what.modules() if not isinstance(m, nn.Sequential))
                yield self.edit(name, f"{type(module).__name__} -> {new}", {})

    def apply(self, model: nn.Module, edit: Edit, evidence: Evidence) -> None:
        """The layer with the weight stored, without the hooks that computed it."""
        hooks = _weight_hooks(submodule(model, edit.site))
        super().apply(model, edit, evidence)
        new = submodule(model, edit.site)
        for key in hooks:
            new._forward_pre_hooks.pop(key)

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """Raises LookupError where nothing is computed."""
        new = _computed(module)
        if not isinstance(new, nn.Module):
            raise LookupError(new or f"this {type(module).__name__} computes nothing")
        return with_settings_of(module, new) if isinstance(module, nn.Conv2d) else new


def _weight_hooks(module: nn.Module) -> list[int]:
    hooks = module._forward_pre_hooks.items()
    return [key for key, hook in hooks if isinstance(hook, WeightNorm | SpectralNorm | prune.BasePruningMethod)]


def _computed(module: nn.Module) -> nn.Module | str | None:
    """The layer with everything stored; why that cannot be; or None where nothing is gained."""
    own = copy_model(module).eval()
    if parametrize.is_parametrized(own) or _weight_hooks(own):
        return _stored(own).train(module.training)
    try:
        return _linear(own) if isinstance(own, nn.Linear) else _convolution(own)  # type: ignore[arg-type]
    except Exception as error:  # a forward of its own may raise anything
        return f"its forward cannot be looked into: {one_line(error, 200)}"


def _stored(module: nn.Module) -> nn.Module:
    """In place: what torch's own reparametrisations compute becomes parameters."""
    for key in _weight_hooks(module):
        hook: Any = module._forward_pre_hooks[key]
        if isinstance(hook, prune.BasePruningMethod):  # its mask is in the values from now on
            prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]
            continue
        sources = [p for name, p in module.named_parameters(recurse=False) if name.startswith(f"{hook.name}_")]
        remove: Any = remove_weight_norm if isinstance(hook, WeightNorm) else remove_spectral_norm
        remove(module, hook.name)
        getattr(module, hook.name).requires_grad_(any(p.requires_grad for p in sources))
    if parametrize.is_parametrized(module):
        # torch's own way of removing them takes them from the class, which copies share.
        computing: Any = dict(module.parametrizations.items())  # type: ignore[operator, union-attr]
        values = {name: getattr(module, name).detach() for name in computing}
        module.__class__ = parametrize.type_before_parametrizations(module)
        del module.parametrizations
        for name, value in values.items():
            if any(original.startswith("original") for original in computing[name]._parameters):
                trained = any(p.requires_grad for p in computing[name].parameters())
                module.register_parameter(name, nn.Parameter(value, requires_grad=trained))
            else:
                module.register_buffer(name, value)
    return module


@dataclass(frozen=True)
class _Probe:
    """One call of conv2d or linear that a forward made, and the zeros around its input."""

    arguments: Mapping[str, Any]
    around: Sides


def _linear(module: nn.Linear) -> nn.Module | str | None:
    first, second = (_probe(module, (rows, module.in_features), rows) for rows in (2, 3))
    if isinstance(first, str) or isinstance(second, str):
        return first if isinstance(first, str) else str(second)
    if reason := _differ(first, second):
        return reason
    weight = first.arguments["weight"]
    return None if weight is module.weight else plain_linear(weight, first.arguments["bias"], module)


def _convolution(module: nn.Conv2d) -> nn.Module | str | None:
    stride = both(module.stride)
    reach = max(d * (k - 1) + 1 for k, d in zip(module.kernel_size, module.dilation, strict=True))
    sizes = [(reach + max(stride) + i, reach + 2 * max(stride) - i) for i in range(max(stride) + 1)]
    probes: list[_Probe] = []
    for i, size in enumerate(sizes):
        probe = _probe(module, (1, module.in_channels, *size), i + 1)
        if isinstance(probe, str):
            return probe
        if probes and (reason := _differ(probes[0], probe)):
            return reason
        probes.append(probe)
    found = probes[0].arguments
    weight, dilation = found["weight"], both(found["dilation"])
    settings = {"stride": both(found["stride"]), "dilation": dilation, "groups": found["groups"]}
    conv = plain(weight, found["bias"], module, **settings)
    own = sides_of(found["padding"], weight.shape[2:], dilation)
    computed = weight is not module.weight
    if len({probe.around for probe in probes}) == 1:
        around = probes[0].around
        total = [a + b for a, b in zip(own.padding(), around.padding(), strict=True)]
        return padded(conv, Sides.from_padding(total)) if computed or around else None
    same = SamePad2d(conv.kernel_size, settings["stride"], dilation)  # type: ignore[arg-type]
    if own or any(probe.around != same.amount(*size) for probe, size in zip(probes, sizes, strict=True)):
        return "how it pads depends on the image's size, in a way that is not known"
    splittable = max(conv.kernel_size) > LARGEST  # once it is a plain convolution
    return nn.Sequential(same, conv) if computed or splittable else None


def _differ(one: _Probe, other: _Probe) -> str | None:
    """Why two calls are not those of one layer."""
    for name, value in one.arguments.items():
        if name == "input":
            continue
        if isinstance(value, Tensor):
            if not torch.equal(value, other.arguments[name]):
                return f"its {name} depends on its input"
        elif value != other.arguments[name]:
            return f"its {name} depends on its input"
    return None


class _Calls(TorchFunctionMode):
    """Notes calls of conv2d and linear and what stands for their output: they need not run to be known."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[inspect.BoundArguments, Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        signature = _SIGNATURES.get(canonical(func))
        if signature is None:
            return func(*args, **(kwargs or {}))
        bound = signature.bind(*args, **(kwargs or {}))
        bound.apply_defaults()
        self.seen.append((bound, torch.empty(0)))
        return self.seen[-1][1]


def _linear_call(input: Any, weight: Any, bias: Any = None) -> None:
    """The arguments of F.linear."""


_SIGNATURES = {"conv2d": CONV2D, "linear": inspect.signature(_linear_call)}


def _probe(module: nn.Module, shape: tuple[int, ...], start: int) -> _Probe | str:
    """What the module does with an input of that shape, or why that is not one call. Each ``start`` is other values."""
    like: Any = module.weight
    x = start * torch.arange(start, start + torch.Size(shape).numel()).sin().view(shape).to(like)  # nowhere zero
    with torch.no_grad(), _Calls() as calls:
        out = module.forward(x)
    if len(calls.seen) != 1 or calls.seen[0][1] is not out:
        return "its forward is more than one call with a weight"
    arguments = calls.seen[0][0].arguments
    around = _around(x, arguments["input"])
    return "it changes its input in other ways than by zeros around it" if around is None else _Probe(arguments, around)


def _around(x: Tensor, wider: Tensor) -> Sides | None:
    """The zeros around ``x`` that make it ``wider``; None where it is something else."""
    if wider is x:
        return Sides()
    if wider.ndim != 4 or wider.shape[:2] != x.shape[:2]:
        return None
    filled = (wider != 0).any(0).any(0)
    (top, bottom), (left, right) = (_ends(filled.any(1 - axis)) for axis in range(2))
    amount = Sides(top, bottom, left, right)
    padded_so = F.pad(x, amount.padding())
    return amount if padded_so.shape == wider.shape and torch.equal(padded_so, wider) else None


def _ends(filled: Tensor) -> Pair:
    """Empty places before the first filled one and after the last."""
    places = filled.nonzero().flatten().tolist()
    return (places[0], len(filled) - 1 - places[-1]) if places else (0, len(filled))


class _Standardised(nn.Conv2d):
    """A convolution whose filters have mean 0 and variance 1 (Qiao et al. 2019), for this file's examples."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) as the plain convolution gives."""
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = centred / (centred.square().mean((1, 2, 3), keepdim=True) + 1e-6).sqrt()
        return F.conv2d(input, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class _Same(nn.Conv2d):
    """A convolution with TensorFlow's padding, for this file's examples."""

    def forward(self, input: Tensor) -> Tensor:
        """ceil(H / stride) rows and ceil(W / stride) columns."""
        pad = SamePad2d(both(self.kernel_size), both(self.stride), both(self.dilation))
        return F.conv2d(pad(input), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
