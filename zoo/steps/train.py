"""Train: fine-tune the lite model, the source model as its teacher."""

import json
import shutil
from pathlib import Path
from typing import Any

from torch import nn

from zoo import tasks
from zoo.atomic import write_json, write_text
from zoo.job import Job, Result
from zoo.origin import Origin
from zoo.rebuild import lite_model, read_plan
from zoo.schedule import Schedule
from zoo.source_model import load_weights, save_weights, source_model


def run(job: Job) -> Result:
    """Writes model.safetensors, metrics.json and curve.jsonl.

    A model in which surgery replaced nothing is not trained: its weights are the source's.
    """
    data, before = job.upstream["data"], job.upstream["baseline"]
    origin = Origin.model_validate_json((before / "source.json").read_text("utf-8"))
    plan = read_plan(job.upstream["surgery"] / "plan.json")
    model = lite_model(origin, plan)
    load_weights(model, job.upstream["surgery"] / "initial.safetensors")
    if plan.edits:
        training = _fine_tune(job, model, origin)
    else:
        write_text(job.folder / "curve.jsonl", "")
        training = {"epochs": 0, "seconds": 0.0, "trained_on": "nothing to win back: the source's weights"}
    save_weights(model, job.folder / "model.safetensors")
    task = tasks.find(origin.task)
    metric: str = task.METRIC
    source = json.loads((before / "metrics.json").read_text("utf-8"))
    metrics = task.evaluate(model.eval(), data, origin.preprocessing) | training
    write_json(job.folder / "metrics.json", metrics)
    shutil.rmtree(job.folder / "partial", ignore_errors=True)  # what the training would have resumed from
    return Result(
        tuple(job.folder / name for name in ("model.safetensors", "metrics.json", "curve.jsonl")),
        {metric: metrics[metric], f"{metric}_source": source[metric], "epochs": training["epochs"]},
    )


def _fine_tune(job: Job, model: nn.Module, origin: Origin) -> dict[str, Any]:
    """Train the model in place; how long and on what, for its metrics."""
    schedule = Schedule.model_validate(job.settings["schedule"])
    taught = job.settings["teacher"] and schedule.distillation is not None
    trained = tasks.find(origin.task).fit(
        model,
        job.upstream["data"],
        origin.preprocessing,
        schedule,
        name=job.model,
        folder=job.folder,
        key=job.key,
        teacher=_teacher(job.upstream["baseline"], origin) if taught else None,
    )
    dataset = json.loads((job.upstream["data"] / "dataset.json").read_text("utf-8"))["name"]
    description = f"{dataset}, fine-tuned from the source's weights" + (", the source as teacher" if taught else "")
    return {"epochs": trained.epochs, "seconds": trained.seconds, "trained_on": description}


def _teacher(folder: Path, origin: Origin) -> nn.Module:
    model = source_model(origin)
    load_weights(model, folder / "source.safetensors")
    return model
