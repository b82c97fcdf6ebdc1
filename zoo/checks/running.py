"""Does the lite model run as its source does: eval and train, backward, shapes, finite values, sizes and batches."""

from collections.abc import Iterator
from contextlib import contextmanager
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
        expected = _tensor(source(images))
        found, faults = _run(lite, images)
    if found is None:
        return [Finding("eval", "error", layer, fact) for layer, fact in faults]
    if found.shape != expected.shape:
        fact = f"output shape {tuple(found.shape)}, the source's is {tuple(expected.shape)}"
        return [Finding("shape", "error", "", fact)]
    if faults:
        return [Finding("finite", "error", layer, fact) for layer, fact in faults[:1]]
    off = _difference(expected, found)
    if same_output and off > SAME:
        fact = (
            f"output differs from the source's by {off:.2g} of its largest value, though every edit promises equality"
        )
        return [Finding("parity", "error", "", fact)]
    return []


def _batches(lite: nn.Module, images: Tensor) -> list[Finding]:
    """A batch must give what its images give one by one: nothing may have frozen the batch size."""
    with torch.no_grad():
        whole = _tensor(lite(images))
        for size in (1, 2):
            try:
                part = _tensor(lite(images[:size]))
            except Exception as error:  # the model's own forward may raise anything
                return [Finding("batch", "error", "", f"fails on a batch of {size}: {_line(error)}")]
            if (off := _difference(whole[:size], part)) > SAME:
                return [Finding("batch", "error", "", f"a batch of {size} gives other outputs (by {off:.2g})")]
    return []


def _sizes(source: nn.Module, lite: nn.Module, images: Tensor) -> list[Finding]:
    """Other input sizes that the source takes, the lite model must take, with outputs of the same shape."""
    height, width = images.shape[-2:]
    for size in ((height + 32, width + 32), (height * 2, width), (height + 1, width + 3)):
        other = nn.functional.interpolate(images[:2], size=size, mode="bilinear")
        with torch.no_grad():
            try:
                expected = _tensor(source(other))
            except Exception:  # the source itself is bound to its size
                continue
            try:
                found = _tensor(lite(other))
            except Exception as error:  # the model's own forward may raise anything
                return [
                    Finding("size", "error", "", f"fails at {size[0]}x{size[1]}, unlike its source: {_line(error)}")
                ]
        if found.shape != expected.shape:
            fact = f"at {size[0]}x{size[1]} output {tuple(found.shape)}, the source's {tuple(expected.shape)}"
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
            found.float().square().mean().backward()  # type: ignore[no-untyped-call]
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


def _run(model: nn.Module, images: Tensor) -> tuple[Tensor | None, list[tuple[str, str]]]:
    """The output, or None and the innermost layer that failed; and the layers whose outputs are not finite."""
    faults: list[tuple[str, str]] = []
    with _watching(model, faults) as running:
        try:
            return _tensor(model(images)), faults
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


def _tensor(output: Any) -> Tensor:
    """The model's main output: itself, or the first of several (logits before auxiliary ones)."""
    first = output if isinstance(output, Tensor) else output[0]
    if not isinstance(first, Tensor):
        raise TypeError(f"the model returns {type(output).__name__}, not a tensor")
    return first


def _difference(expected: Tensor, found: Tensor) -> float:
    scale = expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny)
    return float((found - expected).abs().max() / scale)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
