"""Export: source and lite model as ONNX, proved equal to PyTorch on validation images, counted and timed.

Leaves model.onnx, source.onnx, export.json and, under further/, the files that the task adds for those who run it.
"""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
from torch import Tensor, nn

import surgery
from zoo import atomic, tasks
from zoo.cost import cost
from zoo.job import Job, Result
from zoo.onnx import exporting, latency, metadata, parity, simplifying
from zoo.onnx.session import Session
from zoo.origin import Origin
from zoo.rebuild import lite_model, read_plan
from zoo.recipe import Export
from zoo.source_model import load_weights, source_model

PARITY_IMAGES = 32
LATENCY_THREADS = 1  # so that figures compare between models, however many threads a build has
DYNAMIC_BATCH = 4  # what parity runs an ONNX model of dynamic batch with


@dataclass(frozen=True)
class Exported:
    """One model as ONNX and what was found about it."""

    file: Path
    model: onnx.ModelProto
    facts: dict[str, Any]


def run(job: Job) -> Result:
    """Export both models; raises StepError where one cannot be exported or differs from PyTorch."""
    settings = Export.model_validate(job.settings["export"])
    origin = Origin.model_validate_json((job.upstream["baseline"] / "source.json").read_bytes())
    plan = read_plan(job.upstream["surgery"] / "plan.json")
    task = tasks.find(origin.task)
    images = task.validation_sample(job.upstream["data"], origin.preprocessing, PARITY_IMAGES)
    opset, outputs = int(job.settings["opset"]), task.outputs(settings)

    def exported(name: str, model: nn.Module, weights: Path, file: Path) -> Exported:
        load_weights(model, weights)
        about = metadata.describe(
            name, origin, fingerprint=surgery.fingerprint(model), weights_sha256=_sha256(weights.read_bytes())
        )
        deployed = task.deployable(model.eval(), origin, settings)
        return export_model(deployed, images, settings, opset, about, file, outputs, job.settings.get("ir_version"))

    source = exported(
        origin.model,
        source_model(origin),
        job.upstream["baseline"] / "source.safetensors",
        job.folder / "source.onnx",
    )
    model = lite_model(origin, plan)
    lite = exported(job.model, model, job.upstream["train"] / "model.safetensors", job.folder / "model.onnx")
    further = _write_further(job.folder / "further", task.descriptions(model, origin, settings, lite.model))
    timed = latency.measure(
        Session(source.model, LATENCY_THREADS),
        Session(lite.model, LATENCY_THREADS),
        images[:1],
        threads=LATENCY_THREADS,
    )
    report = job.folder / "export.json"
    atomic.write_json(
        report,
        {
            "opset": job.settings["opset"],
            "dynamic_batch": settings.dynamic_batch,
            "tolerance": settings.tolerance,
            "source": source.facts,
            "lite": lite.facts,
            "latency": asdict(timed),
            "host": sorted(task.host_boundary(model, lite.model)),
            "further": [file.name for file in further],
        },
    )
    return Result(
        outputs=(lite.file, source.file, report, *further),
        summary={
            "difference": lite.facts["parity"]["relative"],
            "macs": lite.facts["cost"]["macs"],
            "speed_up": timed.speed_up,
        },
    )


def export_model(
    model: nn.Module,
    images: Tensor,
    settings: Export,
    opset: int,
    about: dict[str, Any],
    file: Path,
    outputs: Sequence[str] = ("output",),
    ir_version: int | None = None,
) -> Exported:
    """Export, simplify, compare and write one model."""
    exported = exporting.export(
        model,
        images[:1],
        opset=opset,
        ir_version=ir_version,
        dynamic_batch=settings.dynamic_batch,
        outputs=outputs,
    )
    batch = DYNAMIC_BATCH if settings.dynamic_batch else 1
    parity.require(parity.compare(model, exported, images, batch=batch), model, exported, images, settings.tolerance)
    if settings.simplify:
        slim = simplifying.simplify(exported, images)
    else:
        slim = simplifying.Simplified(exported, False, "export.simplify is false")
    final = parity.compare(model, slim.model, images, batch=batch)
    parity.require(final, model, slim.model, images, settings.tolerance)
    metadata.write(slim.model, about)
    exporting.check(slim.model)
    content = slim.model.SerializeToString(deterministic=True)
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_bytes(content)
    atomic.replace_file(temporary, file)
    return Exported(
        file,
        slim.model,
        {
            "sha256": _sha256(content),
            "fingerprint": about["plan_fingerprint"],
            "weights_sha256": about["weights_sha256"],
            "nodes": len(slim.model.graph.node),
            "parity": asdict(final),
            "simplified": slim.simplified,
            "simplification": slim.reason,
            "cost": asdict(cost(model, images[:1])),
        },
    )


def _write_further(folder: Path, texts: Mapping[str, str]) -> tuple[Path, ...]:
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in texts.items():
        atomic.write_text(folder / name, text)
    return tuple(folder / name for name in texts)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
