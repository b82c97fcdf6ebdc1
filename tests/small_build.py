"""One small model through surgery, export, release and index by the real steps; its weights are random."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import surgery
from zoo import atomic
from zoo.config import Dataset, Preprocessing
from zoo.data import judging
from zoo.data.summary import SUMMARY
from zoo.job import Job
from zoo.origin import Licences, Origin
from zoo.source_model import save_weights, source_model
from zoo.steps import check, export, index, release
from zoo.targets import reading
from zoo.targets.identity import digest

NAME = "mobilenet_v3_small_lite"
SIZE = 32
LABELS = tuple("0123456789")
ORIGIN = Origin(
    library="torchvision",
    library_version="0.29.2",
    model="mobilenet_v3_small",
    weights=None,
    task="classification",
    num_classes=len(LABELS),
    labels=LABELS,
    preprocessing=Preprocessing(resize=SIZE, size=SIZE, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    measured_as="the evaluation that dataset speckles states",
    licences=Licences(code="BSD-3-Clause", weights="trained by this build; see its dataset's licence"),
)
RELEASE = {
    "name": NAME,
    "description": "A small one.",
    "recipe": {},
    "accept": {},
    "schedules": {"source": "scratch", "lite": "finetune"},
    "dataset_name": "speckles",
    "dataset_licence": "CC0-1.0",
    "target_name": "embedded",
    "device": "",
    "left": {},
    "profile": "demo",
}
TARGETS = {
    "embedded": """\
description: a device for tests
sources: [{title: nowhere}]
opset: {max: 18, export: 18}
operators:
  Conv, Relu, Add, Mul, GlobalAveragePool, Flatten, Reshape, Gemm: {}
""",
    "bare": """\
description: another, without activations
sources: [{title: nowhere}]
extends: embedded
removed: [Relu]
opset: {max: 18, export: 18}
""",
}
EXPORT = {"opset": None, "dynamic_batch": False, "simplify": True, "tolerance": 1e-3}


@dataclass(frozen=True)
class SmallBuild:
    """The folders of one model's steps under ``root``/artifacts/demo."""

    root: Path

    @property
    def shared(self) -> Path:
        return self.root / "artifacts" / "demo"

    @property
    def zoo(self) -> Path:
        return self.shared / "zoo"

    def folder(self, step: str) -> Path:
        folder = self.shared / "data" / "speckles" if step == "data" else self.shared / NAME / step
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def job(self, step: str, settings: dict[str, Any], model: str = NAME) -> Job:
        upstream = {step: self.folder(step) for step in ("data", "baseline", "surgery", "check", "train", "export")}
        upstream["release"] = self.folder("release")
        return Job(step, model, "demo", self.folder(step), self.shared, settings, upstream, key="0" * 64)

    @property
    def digests(self) -> dict[str, str]:
        """Of the targets, by name."""
        return {name: digest(reading.read(name, self.root)) for name in TARGETS}

    def check(self, target: str = "embedded", **changes: Any) -> dict[str, Any]:
        """Run the step on the weights of the lite model; its findings."""
        written = {"export": EXPORT, "opset": 18, "ir_version": None}
        about = {"target_name": target, "target_sha256": self.digests[target], "device": "", "left": {}}
        check.run(self.job("check", {**written, **about, **changes}))
        return json.loads((self.folder("check") / "findings.json").read_bytes())

    def export(self, **changes: Any) -> dict[str, Any]:
        """Run the step; its report."""
        export.run(self.job("export", {"export": {**EXPORT, **changes}, "opset": 18, "ir_version": None}))
        return json.loads((self.folder("export") / "export.json").read_bytes())

    def release(self, model: str = NAME, **changes: Any) -> dict[str, Any]:
        """Run the step; its summary."""
        settings = {**RELEASE, "name": model, "targets": self.digests, **changes}
        return dict(release.run(self.job("release", settings, model)).summary)

    def index(self) -> None:
        index.run(self.job("index", {}))


def prepare(root: Path) -> SmallBuild:
    """What the steps before export leave: data, source weights, plan and lite weights."""
    build = SmallBuild(root)
    for name, text in TARGETS.items():
        atomic.write_text(root / "configs" / "targets" / f"{name}.yaml", text)
    _write_data(build.folder("data"))
    torch.manual_seed(0)
    source = source_model(ORIGIN).eval()
    batch = torch.randn(8, 3, SIZE, SIZE)
    lite, report = surgery.lite(source, example_inputs=(batch,), calibration=[batch])
    for model in (source, lite):  # without it a random network of this depth answers about zero for every image
        surgery.reestimate_batchnorm(model, [batch] * 4)
    atomic.write_text(build.folder("baseline") / "source.json", ORIGIN.model_dump_json())
    save_weights(source, build.folder("baseline") / "source.safetensors")
    atomic.write_json(build.folder("surgery") / "plan.json", report.plan.to_json())
    atomic.write_json(build.folder("surgery") / "report.json", report.to_json())
    for step, file in (("surgery", "initial"), ("train", "model")):
        save_weights(lite, build.folder(step) / f"{file}.safetensors")
    for step, top1, epochs in (("baseline", 0.9, 3), ("surgery", 0.5, 0), ("train", 0.875, 2)):
        write_metrics(build, step, top1, epochs)
    return build


def write_metrics(build: SmallBuild, step: str, top1: float, epochs: int = 2, seconds: float = 1.5) -> None:
    metrics = {
        "top1": top1,
        "top5": 0.99,
        "images": 8,
        "dataset": "speckles",
        "dataset_digest": "d" * 64,
    }
    if epochs:  # what surgery leaves is not trained
        metrics |= {"epochs": epochs, "seconds": seconds, "trained_on": "speckles"}
    atomic.write_json(build.folder(step) / "metrics.json", metrics)


def _write_data(folder: Path) -> None:
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in LABELS:
            (folder / split / label).mkdir(parents=True)
            pixels = random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / split / label / "0000.png")
    dataset = Dataset(
        description="Speckles made for a test.",
        task="classification",
        layout="imagefolder",
        num_classes=len(LABELS),
        mean=ORIGIN.preprocessing.mean,
        std=ORIGIN.preprocessing.std,
        licence="CC0-1.0",
    )
    summary = judging.summarise("speckles", dataset, folder, inside=True)
    atomic.write_json(folder / SUMMARY, summary.model_dump(mode="json"))
