"""Train: fine-tune the lite model, the source model as its teacher."""

import json
import shutil
from typing import Any

from torch import nn

from zoo import tasks
from zoo.atomic import write_json, write_text
from zoo.config import Launch
from zoo.job import Job, Result
from zoo.origin import Origin
from zoo.rebuild import lite_model, read_plan
from zoo.schedule import Schedule
from zoo.source_model import load_weights, save_weights
from zoo.training import launching
from zoo.training.accelerated import accelerated
from zoo.training.fitting import Fitting


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
    with accelerated(model):
        metrics = task.evaluate(model.eval(), data, origin.preprocessing) | training
    write_json(job.folder / "metrics.json", metrics)
    shutil.rmtree(job.folder / "partial", ignore_errors=True)  # what the training would have resumed from
    return Result(
        tuple(job.folder / name for name in ("model.safetensors", "metrics.json", "curve.jsonl")),
        {metric: metrics[metric], f"{metric}_source": source[metric], "epochs": training["epochs"]},
    )


def _fine_tune(job: Job, model: nn.Module, origin: Origin) -> dict[str, Any]:
    """Train the model in place; how long, on what and what the source taught, for its metrics."""
    data, before, edited = (job.upstream[step] for step in ("data", "baseline", "surgery"))
    schedule = Schedule.model_validate(job.settings["schedule"])
    taught = job.settings["teacher"] and schedule.distillation is not None
    fitting = Fitting(
        name=job.model,
        origin=origin,
        plan=edited / "plan.json",
        source=before / "source.safetensors",
        is_taught=taught,
        schedule=schedule,
        launch=Launch.model_validate(job.settings["launch"]),
        data=data,
        folder=job.folder,
        key=job.key,
    )
    fitted = launching.fit(model, fitting)
    dataset = json.loads((data / "dataset.json").read_text("utf-8"))["name"]
    description = f"{dataset}, fine-tuned from the source's weights" + (", the source as teacher" if taught else "")
    scaled = job.settings["learning_rate_scaled_from"]
    return {
        "epochs": fitted.epochs,
        "seconds": fitted.seconds,
        "trained_on": description,
        **fitted.training,
        **({"learning_rate_scaled_from": scaled} if scaled else {}),
        "teaching": fitted.teaching,
    }
