"""The ONNX model that a release would hold, but for its weights: what can be linted before anything is trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from torch import Tensor, nn

from zoo import tasks
from zoo.onnx import exporting, simplifying
from zoo.origin import Origin
from zoo.recipe import Export


@dataclass(frozen=True)
class Deployed:
    """``host`` names the values behind which the device's host takes over."""

    model: onnx.ModelProto
    host: frozenset[str]


def deployed(model: nn.Module, origin: Origin, image: Tensor, settings: Mapping[str, Any]) -> Deployed:
    """A source or lite model as the export step writes it, from one input (1, 3, size, size).

    ``settings`` are the step's: ``export``, ``opset``, ``ir_version``. Whether it computes the same as PyTorch is the
    export step's to prove. Raises StepError where it cannot be exported.
    """
    export = Export.model_validate(settings["export"])
    task = tasks.find(origin.task)
    exported = exporting.export(
        task.deployable(model.eval(), origin, export),
        image,
        opset=settings["opset"],
        ir_version=settings["ir_version"],
        dynamic_batch=export.dynamic_batch,
        outputs=task.outputs(export),
    )
    if export.simplify:
        exported = simplifying.simplify(exported, image).model
    return Deployed(exported, task.host_boundary(model, exported))
