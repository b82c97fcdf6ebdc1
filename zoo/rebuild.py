"""From an origin and a plan to the lite model: the same way in the pipeline and for the consumer."""

import json
from pathlib import Path

from torch import nn

import surgery
from zoo.errors import WeightsMismatch
from zoo.origin import Origin
from zoo.source_model import source_model


def read_plan(file: Path) -> surgery.Plan:
    """The surgery plan that the surgery step wrote. Raises WeightsMismatch where the file is no plan."""
    try:
        return surgery.Plan.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, surgery.PlanMismatch) as error:
        raise WeightsMismatch(f"{file}: {error}; build it again") from error


def lite_model(origin: Origin, plan: surgery.Plan) -> nn.Module:
    """The lite model with fresh weights: the source model with the plan's edits.

    Raises WeightsMismatch where the plan was made for another model.
    """
    try:
        return surgery.replay(source_model(origin), plan)
    except surgery.PlanMismatch as error:
        raise WeightsMismatch(
            f"{origin.library}/{origin.model}: {error}; the plan was made with {origin.library} "
            f"{origin.library_version}: install that version or build the release again"
        ) from error
