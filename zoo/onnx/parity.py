"""Whether an ONNX model computes what the PyTorch model computes, on real images."""

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from zoo.errors import StepError
from zoo.onnx.session import Session


@dataclass(frozen=True)
class Parity:
    """The largest difference over all images, of the output where it is largest.

    ``relative`` is ``absolute`` over the largest magnitude of PyTorch's output; of whole numbers, such as classes of
    pixels, the share that differ.
    """

    absolute: float
    relative: float
    images: int
    same_top1: int  # images of which the first output is largest, or for numbers equal, in the same place


def compare(model: nn.Module, exported: onnx.ModelProto, images: Tensor, *, batch: int = 1) -> Parity:
    """Compare outputs for images (N, C, H, W), PyTorch one image at a time, ONNX ``batch`` at a time.

    An image may give one row (N, ...), or as many as every other: a detector's boxes after suppression.
    """
    with torch.inference_mode():
        each = [outputs_of(model, image[None]) for image in images]
    expected = [torch.cat(part) for part in zip(*each, strict=True)]
    found = Session(exported).run_each(images, batch)
    by_image = [_by_image(outputs, len(images)) for outputs in (expected, found)]
    return difference(*by_image)


def outputs_of(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """What a model returns, one tensor or a tuple of them, as a tuple."""
    output = model(images)
    return (output,) if isinstance(output, Tensor) else tuple(output)


def difference(expected: Sequence[Tensor], found: Sequence[Tensor]) -> Parity:
    """The difference between two lists of outputs (N, ...) of the same images; NaN on either side makes it NaN."""
    each = [_difference(was, now) for was, now in zip(expected, found, strict=True)]
    absolute, relative = max(each, key=lambda pair: (math.isnan(pair[1]), pair[1]))
    first, other = expected[0].flatten(1), found[0].flatten(1)
    same = first.argmax(1) == other.argmax(1) if first.is_floating_point() else (first == other).all(1)
    return Parity(absolute, relative, len(first), int(same.sum()))


def _by_image(outputs: Sequence[Tensor], images: int) -> list[Tensor]:
    """Outputs whose first dimension is the image: (N * rows, ...) as (N, rows, ...)."""
    return [
        output if len(output) == images else output.reshape(images, len(output) // images, *output.shape[1:])
        for output in outputs
    ]


def _difference(expected: Tensor, found: Tensor) -> tuple[float, float]:
    if not expected.numel():
        return 0.0, 0.0
    absolute = float((found.double() - expected.double()).abs().max())
    if not expected.is_floating_point():
        return absolute, float((found != expected).double().mean())
    return absolute, absolute / max(float(expected.abs().max()), torch.finfo(expected.dtype).tiny)


def require(parity: Parity, model: nn.Module, exported: onnx.ModelProto, images: Tensor, tolerance: float) -> None:
    """Raises StepError, naming the first module that differs, where the difference is not within ``tolerance``."""
    if parity.relative <= tolerance:  # false for NaN
        return
    where = first_difference(model, exported, images[:1], tolerance)
    raise StepError(
        f"the ONNX model differs from PyTorch by {parity.absolute:.3g}, {parity.relative:.3g} of the largest output, "
        f"over {parity.images} images; export.tolerance is {tolerance:g}"
        + (f"; the first module that differs is '{where}'" if where else "")
    )


def first_difference(model: nn.Module, exported: onnx.ModelProto, image: Tensor, tolerance: float) -> str | None:
    """The first module, in the order they finish, whose output differs from ONNX; none where none can be named.

    A module's output is taken to be that of the last ONNX node that carries its path. A convolution whose BatchNorm
    the exporter folded into it has no node of its own and is passed over.
    """
    names = _last_outputs(exported)
    wide = onnx.ModelProto()
    wide.CopyFrom(exported)
    for name in sorted(set(names.values()) - {output.name for output in exported.graph.output}):
        wide.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = Session(wide)
    values = dict(zip([o.name for o in wide.graph.output], session.run(image.numpy()), strict=True))
    finished: list[tuple[str, Tensor]] = []

    def note(name: str) -> Any:
        def keep(_module: object, _inputs: object, output: Any) -> None:
            if torch.is_tensor(output):
                finished.append((name, output.clone()))  # an activation behind it may work in place

        return keep

    hooks = [module.register_forward_hook(note(name)) for name, module in model.named_modules() if name in names]
    try:
        with torch.inference_mode():
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    for name, expected in finished:
        found = torch.from_numpy(values[names[name]])
        if found.shape != expected.shape:
            continue  # the last node of that path is not what the module returns
        parity = difference([expected.reshape(1, -1)], [found.reshape(1, -1)])
        if not parity.relative <= tolerance:  # true for NaN
            return name
    return None


def _last_outputs(exported: onnx.ModelProto) -> Mapping[str, str]:
    """For each module's path, the ONNX value that the last of its nodes makes."""
    last: dict[str, str] = {}
    for node in exported.graph.node:
        scopes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "[]")
        for scope in ast.literal_eval(scopes)[:-1]:  # the last one is the operator's own name
            last[scope] = node.output[0]
    return last
