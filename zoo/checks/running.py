"""Does the lite model run as its source does: eval and train, backward, shapes, finite values, sizes and batches."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from zoo.checks import Finding

SAME = 1e-4  # largest difference over largest value that counts as equal in float32


def check_running(source: nn.Module, lite: nn.Module, images: Tensor, same_output: bool) -> list[Finding]:
    """All findings on ``images`` (N, 3, H, W), N >= 2. Both models are left as they were.

    ``same_output``: every edit promises equal outputs, so source and lite are compared by value too.
    """
    source, lite = deepcopy(source).eval(), deepcopy(lite).eval()
    findings = _outputs(source, lite, images, same_output)
    if any(finding.severity == "error" for finding in findings):
        return findings  # what follows would only repeat it
    return [*_batches(lite, images), *_sizes(source, lite, images), *_training(lite, images)]


def _outputs(source: nn.Module, lite: nn.Module, images: Tensor, same_output: bool) -> list[Finding]:
    with torch.no_grad():
        expected = _tensors(source(images))
        found, faults = _run(lite, images)
    if found is None:
        return [Finding("eval", "error", layer, fact) for layer, fact in faults]
    if _shapes(found) != _shapes(expected):
        fact = f"output shape {_shapes(found)}, the source's is {_shapes(expected)}"
        return [Finding("shape", "error", "", fact)]
    if faults:
        return [Finding("finite", "error", layer, fact) for layer, fact in faults[:1]]
    off = _difference(expected, found)
    if same_output and off > SAME:  # in float64, as below
        with suppress(Exception), torch.no_grad():
            wide = images.double()
            exact, other = (_tensors(deepcopy(model).double()(wide)) for model in (source, lite))
            off = _difference(exact, other)
    if same_output and not off <= SAME:
        fact = (
            f"output differs from the source's by {off:.2g} of its largest value, though every edit promises equality"
        )
        return [Finding("parity", "error", "", fact)]
    return []


def _batches(lite: nn.Module, images: Tensor) -> list[Finding]:
    """A batch must give what its images give one by one: nothing may have frozen the batch size.

    What float32 rounds in another way for another batch, which some models magnify, is not a fault.
    """
    for size in (1, 2):
        try:
            off = _batch_difference(lite, images, size)
        except Exception as error:  # the model's own forward may raise anything
            return [Finding("batch", "error", "", f"fails on a batch of {size}: {_line(error)}")]
        if off > SAME:
            with suppress(Exception):  # a model may be of float32 alone
                off = _batch_difference(deepcopy(lite).double(), images.double(), size)
        if not off <= SAME:
            return [Finding("batch", "error", "", f"a batch of {size} gives other outputs (by {off:.2g})")]
    return []


def _batch_difference(lite: nn.Module, images: Tensor, size: int) -> float:
    """How far the outputs of the first ``size`` images alone are from theirs in the whole batch."""
    with torch.no_grad():
        whole, part = _tensors(lite(images)), _tensors(lite(images[:size]))
    return _difference([output[:size] for output in whole], part)


def _sizes(source: nn.Module, lite: nn.Module, images: Tensor) -> list[Finding]:
    """Other input sizes that the source takes, the lite model must take, with outputs of the same shape."""
    height, width = images.shape[-2:]
    for size in ((height + 32, width + 32), (height * 2, width), (height + 1, width + 3)):
        other = nn.functional.interpolate(images[:2], size=size, mode="bilinear")
        with torch.no_grad():
            try:
                expected = _tensors(source(other))
            except Exception:  # the source itself is bound to its size
                continue
            try:
                found = _tensors(lite(other))
            except Exception as error:  # the model's own forward may raise anything
                return [
                    Finding("size", "error", "", f"fails at {size[0]}x{size[1]}, unlike its source: {_line(error)}")
                ]
        if _shapes(found) != _shapes(expected):
            fact = f"at {size[0]}x{size[1]} output {_shapes(found)}, the source's {_shapes(expected)}"
            return [Finding("size", "error", "", fact)]
    return []


def _training(lite: nn.Module, images: Tensor) -> list[Finding]:
    """Train-mode forward and backward: every parameter gets a finite gradient."""
    lite.train()
    lite.zero_grad(set_to_none=True)
    images = images if len(images) > 1 else images.repeat(2, 1, 1, 1)
    with torch.enable_grad():
        found, faults = _run(lite, images)
        if found is None or faults:
            return [Finding("train", "error", layer, fact) for layer, fact in faults[:1]]
        try:
            sum(output.float().square().mean() for output in found).backward()  # type: ignore[union-attr]
        except RuntimeError as error:
            return [Finding("backward", "error", "", _line(error), "an inplace layer? rule not_inplace removes them")]
    findings = []
    for name, parameter in lite.named_parameters():
        layer = name.rpartition(".")[0]
        if parameter.requires_grad and parameter.grad is None:
            findings.append(Finding("gradient", "warning", layer, f"{name} gets no gradient"))
        elif parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
            findings.append(Finding("gradient", "error", layer, f"the gradient of {name} is not finite"))
    return findings


def _run(model: nn.Module, images: Tensor) -> tuple[list[Tensor] | None, list[tuple[str, str]]]:
    """The outputs, or None and the innermost layer that failed; and the layers whose outputs are not finite."""
    faults: list[tuple[str, str]] = []
    with _watching(model, faults) as running:
        try:
            return _tensors(model(images)), faults
        except Exception as error:  # the model's own forward may raise anything
            return None, [(running[-1] if running else "", f"forward fails: {_line(error)}")]


@contextmanager
def _watching(model: nn.Module, faults: list[tuple[str, str]]) -> Iterator[list[str]]:
    """Names of the layers that are running; a layer that raises stays on the list."""
    running: list[str] = []
    handles = []
    for name, module in model.named_modules():

        def enter(module: nn.Module, args: Any, name: str = name) -> None:
            running.append(name)

        def leave(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
            running.remove(name)
            if isinstance(output, Tensor) and not bool(output.detach().isfinite().all()):
                faults.append((name, "its output is not finite"))

        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield running
    finally:
        for handle in handles:
            handle.remove()


def _tensors(output: Any) -> list[Tensor]:
    """All tensors of an output: itself, or those in tuples, lists and dicts; a detector gives one for each level."""
    if isinstance(output, Tensor):
        return [output]
    if output is None:  # an auxiliary classifier that is off
        return []
    if isinstance(output, dict):
        return [tensor for value in output.values() for tensor in _tensors(value)]
    if isinstance(output, list | tuple):
        return [tensor for value in output for tensor in _tensors(value)]
    raise TypeError(f"the model returns {type(output).__name__}, not a tensor")


def _shapes(outputs: Sequence[Tensor]) -> str:
    return ", ".join(str(tuple(output.shape)) for output in outputs)


def _difference(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """The largest difference of an output over its largest value."""
    return max(float((now - was).abs().max() / _scale(was)) for was, now in zip(expected, found, strict=True))


def _scale(output: Tensor) -> Tensor:
    return output.abs().max().clamp_min(torch.finfo(output.dtype).tiny)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
