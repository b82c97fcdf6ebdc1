"""Surgery with the default rules on one model, and everything that is asked of its result."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

import surgery_models
import torch
from torch import Tensor, nn

import surgery
from surgery.observing.observe import tensors
from surgery.observing.unfriendly import unfriendly

BATCH, OTHER_BATCH = 2, 1
# A rule replaces the module at its site, and with it the names below, or it rewrites the module's forward and keeps
# them but for what it says that it removed.
REWRITES, REMOVED = "rewrites", "removed"

RULES = tuple(surgery.rules())  # found here, so that processes that are forked later need not
# What torch imports when shapes are first computed without data, once in a process: a second.
import_module("torch._dynamo")
# Seconds: shorter surgery is timed three times, and the shortest counts. The first in a process pays for what is loaded
# and compiled once, a tenth of a second.
REPEATED_BELOW = 8.0

Tell = Callable[[str, Any], None]
Sizes = list[tuple[int, ...]]


def trial(library: str, name: str, tell: Tell, times: bool = False) -> None:
    """Build, operate and, but where ``times`` are all that is asked for, examine; each answer is told as soon as it is
    known, so that a timeout loses none.

    None is the answer where the source model itself cannot do what is asked. Raises whatever the model or surgery
    raises; "stage" was told before.
    """
    torch.manual_seed(0)
    tell("stage", "build")
    model, (channels, height, width) = surgery_models.build(library, name)
    inputs = lambda batch, high, wide: (torch.rand(batch, channels, high, wide),)  # noqa: E731
    example = inputs(BATCH, height, width)
    tell("parameters", sum(parameter.numel() for parameter in model.parameters()))
    tell("stage", "source forward")
    expected, was = _shapes(model, example), _digest(model)
    tell("unfriendly_before", len(unfriendly(model, example)))

    tell("stage", "surgery")
    lite, report, spent = _operate(model, example)
    if spent.graph + spent.forward < REPEATED_BELOW:
        spent = min(spent, *(_operate(model, example)[2] for _ in range(2)), key=lambda each: each.graph)
    tell("seconds", round(spent.graph, 3))
    tell("forward_seconds", round(spent.forward, 3))
    if times:
        return
    tell("edits", report.by_rule())
    tell("refusals", [asdict(refusal) for refusal in report.refusals])
    tell("finished", True)
    tell("untouched", _digest(model) == was)
    tell("missing_names", missing := _missing(model, lite, report.edits))
    tell("names", not missing and isinstance(lite, type(model)))

    tell("stage", "forward")
    found = _shapes(lite, example)
    tell("forward", True)
    tell("shape", found == expected)
    faults = [asdict(fault) for fault in unfriendly(lite, example)]
    tell("left", faults)
    tell("clean", not faults)
    tell("stage", "another batch size")
    tell("batch", _same_shapes(model, lite, inputs(OTHER_BATCH, height, width)))
    tell("stage", "another image size")
    tell("size", _same_shapes(model, lite, inputs(OTHER_BATCH, _other(height, 64), _other(width, 32))))
    tell("stage", "backward")
    tell("backward", _learns(model, lite, [inputs(batch, height, width) for batch in (OTHER_BATCH, BATCH)]))
    tell("stage", "done")


@dataclass(frozen=True)
class Spent:
    """CPU seconds, since other programs can only add to wall time; the report knows the share of forward passes."""

    graph: float
    forward: float


def _operate(model: nn.Module, example: Sequence[Tensor]) -> tuple[nn.Module, surgery.Report, Spent]:
    start = time.process_time()
    lite, report = surgery.lite(model, example_inputs=example)
    seconds, running = time.process_time() - start, report.running_seconds / report.seconds
    return lite, report, Spent(seconds * (1 - running), seconds * running)


def _other(side: int, step: int) -> int:
    return side - step if side > 2 * step else side + step


@torch.no_grad()
def _shapes(model: nn.Module, inputs: Sequence[Tensor]) -> Sizes:
    return [tuple(tensor.shape) for tensor in tensors(model.eval()(*inputs))]


def _same_shapes(model: nn.Module, lite: nn.Module, inputs: Sequence[Tensor]) -> bool | str | None:
    try:
        expected = _shapes(model, inputs)
    except Exception:  # whatever the source's own forward raises
        return None
    try:
        found = _shapes(lite, inputs)
    except Exception as error:  # whatever a rewritten forward raises
        return _one_line(error)
    return found == expected or f"shapes {found} instead of {expected}"


def _digest(model: nn.Module) -> str:
    digest = hashlib.sha256(repr(model).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        if isinstance(value, Tensor):
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest() + str([(module.training, type(module).__qualname__) for module in model.modules()])


def _missing(model: nn.Module, lite: nn.Module, edits: Sequence[surgery.Edit]) -> list[str]:
    """Names in the source's state_dict, outside replaced and removed modules, that are gone or have another shape."""
    sites = {edit.site for edit in edits if edit.site and REWRITES not in edit.params}
    sites |= {f"{edit.site}.{name}".lstrip(".") for edit in edits for name in edit.params.get(REMOVED, ())}
    every = dict(model.named_modules(remove_duplicate=False))
    edited = {id(every[site]) for site in sites & every.keys()}  # a shared module has several names
    gone = (*(f"{name}." for name, module in every.items() if id(module) in edited), *(f"{site}." for site in sites))
    names = {key: tuple(value.shape) for key, value in model.state_dict().items() if not f"{key}.".startswith(gone)}
    now = {key: tuple(value.shape) for key, value in lite.state_dict().items()}
    return sorted(key for key, shape in names.items() if now.get(key) != shape)


def _learns(model: nn.Module, lite: nn.Module, batches: Sequence[Sequence[Tensor]]) -> bool | str | None:
    """Whether every parameter that learns in the source and is still there learns in the lite model too.

    On the first of the batches that the source learns from: of one image, since attention that is spelled out holds all
    of its maps for backward, and of more where BatchNorm wants them.
    """
    for inputs in batches:
        try:
            expected = _learning(model, inputs)
            break
        except Exception:  # whatever the source's own forward raises
            continue
    else:
        return None
    try:
        found = _learning(lite, inputs)
    except Exception as error:  # whatever a rewritten forward raises
        return _one_line(error)
    there = dict(lite.named_parameters())
    if lost := sorted(name for name in expected if name in there and name not in found):
        return f"no gradient reaches {len(lost)} parameters, such as {lost[0]}"
    broken = sorted(name for name, finite in found.items() if not finite and expected.get(name, True))
    return f"gradients of {len(broken)} parameters, such as {broken[0]}, are not finite" if broken else bool(found)


def _learning(model: nn.Module, inputs: Sequence[Tensor]) -> dict[str, bool]:
    """Names of the parameters that a gradient reaches in train mode, and whether it is finite."""
    model.train().zero_grad()
    outputs = [tensor for tensor in tensors(model(*inputs)) if tensor.requires_grad]
    torch.stack([tensor.float().square().mean() for tensor in outputs]).sum().backward()
    found = {name: bool(p.grad.isfinite().all()) for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
