"""How much time and memory the pipeline itself costs, around the work of its steps.

    .venv/bin/python benchmarks/pipeline.py               # `doit list`, and a build of 1,000 recipes with nothing to do
    .venv/bin/python benchmarks/pipeline.py --starter     # also builds the starter zoo, in a folder of its own

Printed: wall time of each command (the smallest of some runs, since other programs can only add to it), the largest
memory of the build's own process and of its largest step, and for the starter zoo the share of the wall time that is
not work of the steps. Goals: `doit list` 0.5 s, nothing to do 2 s, overhead 10 %.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from zoo import index, records
from zoo.building.build import Build, steps
from zoo.reading import library
from zoo.records import Output, Record

REPOSITORY = Path(__file__).parents[1]
COPIED = ("configs", "recipes", "dodo.py", "pyproject.toml")

# What the steps leave, by name; here one line each, since what is in them is not looked at when nothing is to be done.
LEAVES = {
    "data": ("dataset.json",),
    "baseline": ("source.safetensors", "source.json", "metrics.json", "curve.jsonl"),
    "surgery": ("plan.json", "report.json", "initial.safetensors", "metrics.json"),
    "check": ("findings.json",),
    "train": ("model.safetensors", "metrics.json", "curve.jsonl"),
    "export": ("model.onnx", "source.onnx", "export.json"),
    "release": ("release.json",),
    "index": ("entry.json",),
}


def checkout(root: Path, recipes: int = 0) -> None:
    """Copy what a build needs; with ``recipes``, so many of them in place of the real ones."""
    for name in COPIED:
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, root / name)
    if recipes:
        real = sorted(root.glob("recipes/torchvision/*.yaml"))
        for number in range(recipes - len(real)):
            file = real[number % len(real)]
            shutil.copy(file, file.with_name(f"generated_{number:04}_{file.name}"))


def pretend_built(root: Path) -> None:
    """Give every step the outputs and the record of a build that has just ended."""
    build = Build(library.load(root), "demo")
    for step in steps():
        for name in build.names(step):
            _pretend_step(build, step, name)
    entries = [_entry(name) for name in build.names("index")]
    for entry in entries:
        folder = index.release_folder(build.shared / "zoo", entry.name, entry.version)
        folder.mkdir(parents=True)
        (folder / "release.json").touch()
    index.add(build.shared / "zoo", entries[0], rebuild=lambda: entries)


def _pretend_step(build: Build, step: str, name: str) -> None:
    folder = build.folder(step, name)
    folder.mkdir(parents=True)
    for file in LEAVES[step]:
        content = json.dumps({"name": name, "version": 1}) if step == "index" else f"{step} {name} {file}"
        (folder / file).write_text(content)
    inputs = build.inputs(step, name)
    outputs = {file: _output(folder / file) for file in LEAVES[step]}
    record = Record(step, name, records.key_of(inputs), inputs, outputs, {"top1": 0.9}, 1.0, "2026-01-01T00:00:00")
    (folder / records.NAME).write_text(json.dumps(asdict(record), indent=2, sort_keys=True))  # fast: not synced


def _output(file: Path) -> Output:
    status = file.stat()
    return Output(status.st_size, hashlib.sha256(file.read_bytes()).hexdigest(), status.st_mtime_ns)


def _entry(name: str) -> index.Entry:
    figures = {"value": 0.9, "source_value": 0.9, "macs": 1, "parameters": 1, "speed_up": 1.0}
    words = {"task": "classification", "source": "torchvision/x", "dataset": "digit_scenes", "metric": "top1"}
    return index.Entry(name=name, version=1, release_sha256="0" * 64, lite=True, **words, **figures)


def doit(root: Path, *args: str, runs: int = 1, show: bool = False) -> float:
    """Smallest wall time in seconds of a command that must succeed."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        command = [sys.executable, "-m", "doit", *args]
        stdout = None if show else subprocess.PIPE
        done = subprocess.run(command, cwd=root, env=environment, stdout=stdout, text=True, check=False)
        times.append(time.perf_counter() - begin)
        if done.returncode:
            sys.exit(f"doit {' '.join(args)} failed: {done.stdout or ''}")
        if args[0] == "build" and not show and " done" in done.stdout:
            sys.exit(f"there was something to do: {done.stdout}")
    return min(times)


def peak_megabytes() -> float:
    """Largest resident memory of any process that this one has waited for."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def nothing_to_do(recipes: int, runs: int) -> None:
    """Time the commands that only look."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        checkout(root)
        print(f"doit list, {len(list(root.glob('recipes/*/*.yaml')))} recipes: {doit(root, 'list', runs=runs):.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        checkout(root, recipes)
        pretend_built(root)
        print(f"doit list, {recipes} recipes: {doit(root, 'list', runs=runs):.2f} s")
        seconds = doit(root, "build", runs=runs)
        print(f"doit build with nothing to do, {recipes} recipes: {seconds:.2f} s, {peak_megabytes():.0f} MB")


def starter() -> None:
    """Build the starter zoo one step at a time, so that the steps' own times add up to the work."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        checkout(root)
        wall = doit(root, "starter", show=True)
        found = [json.loads(file.read_text()) for file in root.glob("artifacts/demo/**/record.json")]
        work = sum(record["seconds"] for record in found)
        metrics = [json.loads(file.read_text()) for file in root.glob("artifacts/demo/*/*/metrics.json")]
        training = sum(measured.get("seconds", 0.0) for measured in metrics)
        largest = max(found, key=lambda record: record["peak_megabytes"])
        print(f"starter zoo: {wall:.1f} s, in steps {work:.1f} s, of which training {training:.1f} s")
        print(f"all but training: {wall - training:.1f} s, {(wall - training) / wall:.1%}")
        print(f"the pipeline around the steps: {wall - work:.1f} s, {(wall - work) / wall:.1%}")
        print(f"largest step: {largest['peak_megabytes']} MB ({largest['step']} of {largest['model']})")
        print(f"the build and the server: {peak_megabytes():.0f} MB")


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--starter", action="store_true")
    options = parser.parse_args()
    nothing_to_do(options.recipes, options.runs)
    if options.starter:
        starter()


if __name__ == "__main__":
    main()
