"""Layers behind an edit, fitted by least squares to what they gave in the source: no labels, no training, one pass."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from surgery.batchnorm import reestimate_batchnorm
from surgery.errors import SurgeryError, one_line
from surgery.operating.modes import restored_modes
from surgery.reconstruction.layers import Layer, Unfitted, fittable, is_plain
from surgery.reconstruction.least_squares import Fit, Moments, fit
from surgery.reconstruction.samples import Positions, at, inputs, pixels

VALUES = 2**25  # of model inputs that are run at once: 220 images of 224 x 224 pixels
HELD_OUT = 0.25  # of the images, which a fit is judged by
SAME = 1e-6  # relative error of a layer that no edit has reached


@dataclass(frozen=True)
class Fitted:
    """A layer's mean square error on held out images, over the variance of what it gave in the source; of both, what
    is the same at all positions counts for nothing, as a bias or BatchNorm takes it away."""

    layer: str
    before: float
    after: float


@dataclass(frozen=True)
class Refit:
    """What was fitted and what was not."""

    fitted: tuple[Fitted, ...]
    left: tuple[Unfitted, ...]
    images: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """JSON values, the same for the same models and images: without the time it took."""
        return {name: value for name, value in asdict(self).items() if name != "seconds"}


def refit(lite: nn.Module, source: nn.Module, batches: Iterable[Tensor], *, statistics: bool = True) -> Refit:
    """Fit the weights of ``lite`` in place to ``source``, from which surgery made it, on batches of model inputs.

    Every convolution and linear layer that both have by the same name, and that an edit has reached, gets the weights
    that bring what it gives closest to what it gave in the source, in the order in which they run, each on what the
    layers before it then give. It is kept where that is closer on images held out. The first inputs of the batches are
    run at once, in one pass, so that a model of n layers takes two forward passes and not n. With ``statistics`` those
    of BatchNorm are measured on the same pass.

    Raises SurgeryError where there are no batches or a model fails on them; ``lite`` is then as it was.
    """
    start = perf_counter()
    together = _together(batches)
    layers, left = fittable(lite, source)
    others = dict(source.named_modules())
    before = {name: value.clone() for name, value in lite.state_dict().items()}
    fitting = _Fitting(layers)
    try:
        with torch.inference_mode(False), torch.no_grad(), restored_modes(source), restored_modes(lite):
            with _hooked({name: others[name] for name in layers}, fitting.record, after=True):
                source.eval()(together)
            lite.eval()
            with _hooked(layers, fitting.fit, after=False):
                if statistics and any(isinstance(module, _BatchNorm) for module in lite.modules()):
                    reestimate_batchnorm(lite, [together])
                else:
                    lite(together)
    except Exception as error:  # the models' own forward may raise anything
        lite.load_state_dict(before)
        raise SurgeryError(f"refit: a model fails on the batches: {one_line(error)}") from error
    left += [Unfitted(name, reason) for name, reason in fitting.left(layers)]
    return Refit(tuple(fitting.fitted), tuple(left), len(together), perf_counter() - start)


def _together(batches: Iterable[Tensor]) -> Tensor:
    taken: list[Tensor] = []
    values = 0
    for batch in batches:
        if not isinstance(batch, Tensor):
            raise SurgeryError(f"refit: a batch is a {type(batch).__name__}; give tensors of model inputs")
        taken.append(batch)
        values += batch.numel()
        if values >= VALUES:
            break
    if not taken:
        raise SurgeryError("refit: no batches; give a few hundred images of model inputs")
    return torch.cat(taken)


@contextmanager
def _hooked(layers: Mapping[str, nn.Module], look: Any, *, after: bool) -> Iterator[None]:
    """Inside, ``look(name, layer, ...)`` sees what each layer gave and received, or what it is about to receive."""
    handles = []
    for name, layer in layers.items():
        if after:
            seen = lambda layer, args, output, name=name: look(name, layer, output, args[0])  # noqa: E731
            handles.append(layer.register_forward_hook(seen))
        else:
            met = lambda layer, args, name=name: look(name, layer, args[0])  # noqa: E731
            handles.append(layer.register_forward_pre_hook(met))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_linear(layer: Layer, received: Tensor, gave: Tensor, positions: Positions) -> bool:
    """Whether what a layer of somebody's own class gave is what torch's own would give."""
    read = inputs(received, layer, positions)
    if read is None:
        return False
    weight = layer.weight.reshape(len(read), -1, read.shape[2])
    expected = (read @ weight.mT).movedim(0, 1).flatten(1)
    return torch.allclose(expected if layer.bias is None else expected + layer.bias, gave, rtol=1e-3, atol=1e-4)


def _plain_name(layer: Layer) -> str:
    return "Linear" if isinstance(layer, nn.Linear) else "Conv2d"


class _Fitting:
    """What the source's layers gave, and what became of the lite model's."""

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        self.seeds = {name: seed for seed, name in enumerate(layers)}
        self.positions: dict[str, Positions] = {}
        self.targets: dict[str, Tensor] = {}
        self.runs: Counter[str] = Counter()
        self.fitted: list[Fitted] = []
        self.reasons: dict[str, str] = {}

    def record(self, name: str, layer: Layer, output: Tensor, received: Tensor) -> None:
        """What the source's layer gave, at positions drawn for it."""
        self.runs[name] += 1
        values = pixels(output, layer)
        drawn = Positions.drawn(values.shape[0], values.shape[2], self.seeds[name], values.device)
        self.positions[name], self.targets[name] = drawn, at(values, drawn)
        if not is_plain(layer) and not _is_linear(layer, received, self.targets[name], drawn):
            self.reasons[name] = f"a {type(layer).__name__} gives something else than a {_plain_name(layer)}"

    def fit(self, name: str, layer: Layer, received: Tensor) -> None:
        """Fit the layer to that, on what it is about to receive."""
        reason = self._fit(name, layer, received)
        if reason:
            self.reasons[name] = reason

    def _fit(self, name: str, layer: Layer, received: Tensor) -> str:
        if name in self.reasons:
            return self.reasons[name]
        if self.runs[name] != 1:
            return f"it runs {self.runs[name]} times in the source"
        if name not in self.targets:
            return "it runs several times"
        targets, positions = self.targets.pop(name), self.positions.pop(name)
        read = inputs(received, layer, positions) if len(received) == len(positions.indices) else None
        if read is None:
            return "it gives another number of pixels than in the source"
        precision = torch.promote_types(read.dtype, torch.float32)
        read = read.to(precision)
        wanted = targets.to(precision).reshape(len(targets), len(read), -1).movedim(1, 0)  # (groups, samples, outputs)
        weight = layer.weight.double().reshape(len(read), -1, read.shape[2])
        cut = round(read.shape[1] * (1 - HELD_OUT))
        held_out = read[:, cut:], wanted[:, cut:]
        before = Fit(weight, weight[:, :, 0]).error(*held_out)
        if before < SAME:
            return ""
        samples = Moments.of(read[:, :cut], wanted[:, :cut])
        after = fit(samples, weight).error(*held_out)
        if not after < before:
            return f"no fit is closer on held out images, which miss {before:.3g} of the variance"
        fitted = fit(samples + Moments.of(*held_out), weight)
        layer.weight.copy_(fitted.weight.reshape(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.copy_(fitted.bias.flatten())
        self.fitted.append(Fitted(name, before, after))
        return ""

    def left(self, layers: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Layers that were not fitted though an edit has reached them, and why."""
        for name in layers:
            if name not in self.runs:
                yield name, "it does not run in the source"
            elif name in self.reasons:
                yield name, self.reasons[name]
