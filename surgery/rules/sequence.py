"""Large layers over a sequence become layers over an image of one row, which other rules know."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from surgery.observing.evidence import Evidence
from surgery.observing.names import behaves_as
from surgery.record import Refusal
from surgery.rule import Example, Promise, Rule, Stage
from surgery.rule_parts.tied import tied_to
from surgery.rule_parts.tiles import LARGEST

LARGEST_POOL = 3


class RowLayer(nn.Module):
    """A layer over images, of height 1, on (N, C, L) or (C, L)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, input: Tensor) -> Tensor:
        """The same with another L."""
        return self.layer(input.unsqueeze(-2)).squeeze(-2)  # type: ignore[no-any-return]


class SequenceToRow(Rule):
    """Devices run large layers over images in parts; a sequence is an image of height 1, so its layers can be too."""

    name = "sequence_to_row"
    promise = Promise.SAME_OUTPUT
    removes = frozenset(
        {"convolution", "conv1d", "conv_transpose1d", "max_pool1d", "adaptive_avg_pool1d", "adaptive_max_pool1d"}
    )
    emits = frozenset({"convolution", "max_pool2d_with_indices", "adaptive_max_pool2d", "_adaptive_avg_pool2d"})
    stage = Stage.BLOCK
    types = (nn.Conv1d, nn.ConvTranspose1d, nn.MaxPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d)

    def examples(self) -> Sequence[Example]:
        """Each kind of layer, in its settings; what devices run themselves stays."""
        conv, transposed = partial(nn.Conv1d, 4, 4), partial(nn.ConvTranspose1d, 4, 4)
        large: list[Callable[[], nn.Module]] = [
            partial(conv, 15, padding=7),
            partial(conv, 7, stride=2, dilation=2, groups=2, bias=False),
            partial(conv, 7, padding="same"),
            partial(transposed, 7, 3, padding=2, output_padding=1),
            partial(transposed, 5, 2, groups=4, dilation=2),
            partial(nn.MaxPool1d, 7, 2, 3),
            partial(nn.MaxPool1d, 4, dilation=2, ceil_mode=True),
            partial(nn.AdaptiveAvgPool1d, 7),
            partial(nn.AdaptiveMaxPool1d, 5),
        ]
        left: list[Callable[[], nn.Module]] = [
            *(partial(conv, 5), partial(conv, 8, stride=8), partial(transposed, 4, 2)),
            *(partial(nn.MaxPool1d, 3), partial(nn.AdaptiveAvgPool1d, 1)),
        ]
        shape = (2, 4, 4, 10)
        return [
            *(Example(partial(_Flat, build), shape, 1) for build in large),
            *(Example(partial(_Flat, build), shape, 0) for build in left),
        ]

    def matches(self, module: nn.Module) -> bool:
        """Those that a rule for images would change."""
        return super().matches(module) and _is_large(module)

    def params(self, module: nn.Module, name: str, evidence: Evidence) -> Mapping[str, Any] | Refusal:
        """Nothing to know but the module."""
        run = evidence.run(name)
        if getattr(module, "return_indices", False):
            return Refusal(self.name, name, "its indices are asked for, and pools in parts have others")
        if run is not None and len(run.args) + len(run.kwargs) > 1:
            return Refusal(self.name, name, "it is called with an output size")
        reason = tied_to(evidence, module)
        return {} if reason is None else Refusal(self.name, name, reason)

    def replacement(self, module: nn.Module, params: Mapping[str, Any]) -> nn.Module:
        """The layer of two axes, the first of which is one row."""
        return RowLayer(_of_row(module))


def _is_large(module: Any) -> bool:
    if isinstance(module, nn.AdaptiveAvgPool1d | nn.AdaptiveMaxPool1d):
        return _one(module.output_size) not in (1, None)
    kernel, stride = _one(module.kernel_size), _one(module.stride)
    if behaves_as(module, nn.Conv1d):
        return bool(kernel > LARGEST and kernel != stride)
    if behaves_as(module, nn.ConvTranspose1d):
        return not (kernel in (2, 3, 4) and stride == 2 and _one(module.dilation) == 1)
    return bool(kernel > LARGEST_POOL)


def _of_row(module: Any) -> nn.Module:
    if isinstance(module, nn.AdaptiveAvgPool1d):
        return nn.AdaptiveAvgPool2d((1, _one(module.output_size)))
    if isinstance(module, nn.AdaptiveMaxPool1d):
        return nn.AdaptiveMaxPool2d((1, _one(module.output_size)))
    kernel, stride, dilation = ((1, _one(n)) for n in (module.kernel_size, module.stride, module.dilation))
    padding: Any = module.padding if isinstance(module.padding, str) else (0, _one(module.padding))
    if isinstance(module, nn.MaxPool1d):
        return nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=module.ceil_mode)
    shared = {"dilation": dilation, "groups": module.groups, "bias": module.bias is not None, "device": "meta"}
    size = (module.in_channels, module.out_channels, kernel, stride, padding)
    new: nn.Conv2d | nn.ConvTranspose2d
    if isinstance(module, nn.ConvTranspose1d):
        new = nn.ConvTranspose2d(*size, output_padding=(0, _one(module.output_padding)), **shared)
    else:
        new = nn.Conv2d(*size, padding_mode=module.padding_mode, **shared)
    weight = module.weight.detach().clone().unsqueeze(-2)
    new.weight = nn.Parameter(weight, requires_grad=module.weight.requires_grad)
    if module.bias is not None:
        new.bias = nn.Parameter(module.bias.detach().clone(), requires_grad=module.bias.requires_grad)
    return new.train(module.training)


def _one(value: Any) -> Any:
    return value[0] if isinstance(value, tuple | list) else value


class _Flat(nn.Module):
    """A layer over the pixels of an image as a sequence, for this file's examples."""

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.layer = build()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(2))  # type: ignore[no-any-return]
