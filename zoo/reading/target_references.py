"""What recipes say of their targets: does the target have the device, does it read the opset?"""

from collections.abc import Iterator, Mapping
from typing import Any

from zoo.errors import Problem, did_you_mean
from zoo.reading.document import Document, shown
from zoo.targets.target import Target


def problems(recipes: Mapping[str, Document], targets: Mapping[str, Target]) -> Iterator[Problem]:
    """Every recipe that asks what its target does not have. A target that is itself wrong is not asked."""
    for recipe in recipes.values():
        target = targets.get(name) if isinstance(name := recipe.data.get("target"), str) else None
        if target is not None:
            yield from _of_device(recipe, str(name), target)
            yield from _of_opset(recipe, str(name), target)


def _of_device(recipe: Document, name: str, target: Target) -> Iterator[Problem]:
    device = recipe.data.get("device")
    if not isinstance(device, str) or device in target.device_names:
        return
    if not target.devices:
        yield recipe.problem(("device",), f"{name} has no devices", "remove the field")
        return
    yield recipe.problem(
        ("device",), f"{name} has no device '{shown(device)}'", did_you_mean(device, target.device_names)
    )


def _of_opset(recipe: Document, name: str, target: Target) -> Iterator[Problem]:
    export = recipe.data.get("export")
    opset: Any = export.get("opset") if isinstance(export, Mapping) else None
    if isinstance(opset, int) and target.opset.severity == "error" and opset > target.opset.max:
        cure = f"write {target.opset.max} or less, or remove the field"
        yield recipe.problem(("export", "opset"), f"{opset}, but {name} reads up to {target.opset.max}", cure)
