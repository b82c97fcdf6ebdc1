"""The figure of a training's weights with BatchNorm's statistics measured anew: what they alone account for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import tasks
from zoo.origin import Origin
from zoo.rebuild import lite_model, read_plan
from zoo.schedule import Schedule
from zoo.source_model import load_weights
from zoo.training import statistics


def settled(settings: Mapping[str, Any], upstream: Mapping[str, Path], weights: Path) -> float:
    """What the training would have ended with, had its schedule said `statistics: measured`."""
    origin = Origin.model_validate_json((upstream["baseline"] / "source.json").read_text("utf-8"))
    model = lite_model(origin, read_plan(upstream["surgery"] / "plan.json"))
    load_weights(model, weights)
    task, data, preprocessing = tasks.find(origin.task), upstream["data"], origin.preprocessing
    schedule = Schedule.model_validate(settings["schedule"] | {"statistics": "measured"})
    count: int = task.STATISTICS_BATCHES
    batches = task.calibration_batches(data, preprocessing, schedule.batch_size, count, schedule.seed)
    statistics.settle(model, schedule, batches)
    value: float = task.evaluate(model.eval(), data, preprocessing)[task.METRIC]
    return value
