"""A checkout to build in: the real pipeline with steps that take milliseconds."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

# mmengine's yapf keeps a cache, which a process may read while another writes it for the first time. pytest imports
# this file before it starts the processes that share the tests, and so the cache is whole when they need it.
import yapf  # noqa: F401

if TYPE_CHECKING:
    from small_build import SmallBuild

# The same examples on every run; to search for new ones: pytest --hypothesis-profile=default
hypothesis.settings.register_profile("steady", derandomize=True)
hypothesis.settings.load_profile("steady")

REPOSITORY = Path(__file__).parents[1]
STEPS = ("data", "baseline", "surgery", "check", "train", "export", "release", "index")
MODELS = ("mobilenet_v2_lite", "mobilenet_v3_small_lite")

# What every stand-in step does: notes that it ran, obeys orders such as "crash", and leaves two files that follow
# from nothing but its settings and its upstream's files.
WORK = """
import errno, hashlib, json, os, signal, subprocess, sys, time
from pathlib import Path
from zoo import index, progress
from zoo.errors import StepError
from zoo.job import Result

def run(job):
    root = job.shared.parents[1]
    note(root / "journal", f"{job.step}:{job.model}")
    assert [p.name for p in job.folder.iterdir()] in ([], ["partial"]), list(job.folder.iterdir())
    order = root / "orders" / f"{job.step}-{job.model}"
    obey(order.read_text() if order.exists() else "", job, root)
    read = {step: digest(folder) for step, folder in sorted(job.upstream.items())}
    result = {"settings": job.settings, "upstream": read, "version": VERSION}
    files = [job.folder / "result.json", job.folder / "deep" / "weights.bin"]
    files[1].parent.mkdir()
    files[0].write_text(json.dumps(result, sort_keys=True))
    files[1].write_bytes(hashlib.sha256(files[0].read_bytes()).digest() * 100)
    if job.step == "index":
        files.append(job.folder / "entry.json")
        files[2].write_text(json.dumps({"name": job.model, "version": 1}))
        publish(job.shared / "zoo", job.model)
    print("threads", job.threads, os.environ["OMP_NUM_THREADS"])
    return Result(outputs=tuple(files), summary={"top1": 0.9125, "epochs": 3})

VERSION = 1

def obey(order, job, root):
    match order.split():
        case ["fail"]:
            raise StepError("the loss is not finite;\\nlower the learning rate")
        case ["bug"]:
            raise KeyError("nothing here")
        case ["full"]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(job.folder / "curve.jsonl"))
        case ["crash"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["exit"]:
            os._exit(7)
        case ["hang"]:
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            (job.folder / "half.bin").write_bytes(b"half")
            note(root / "pids", f"{os.getpid()} {child.pid}")
            time.sleep(600)
        case ["meet", count]:  # ends when so many steps are here at the same time
            (root / "meeting" / f"{job.step}-{job.model}").touch()
            while len(list((root / "meeting").iterdir())) < int(count):
                time.sleep(0.01)
        case ["report"]:
            for i in range(5):
                progress.report(f"epoch {i}", i / 5)

def publish(zoo, name):
    (zoo / "models" / name / "v1").mkdir(parents=True, exist_ok=True)
    (zoo / "models" / name / "v1" / "release.json").touch()
    figures = dict(task="classification", lite=True, source="torchvision/x", dataset="digits", metric="top1")
    numbers = dict(value=0.9, source_value=0.9, macs=1, parameters=1, speed_up=1.0)
    entry = index.Entry(name=name, version=1, release_sha256="0" * 64, **figures, **numbers)
    index.add(zoo, entry, rebuild=lambda: [])

def note(file, line):
    with open(file, "a") as stream:
        stream.write(line + "\\n")

def digest(folder):
    return hashlib.sha256((folder / "result.json").read_bytes()).hexdigest()
"""

DATASET = """description: nothing
task: classification
layout: imagefolder
generator: digit_scenes
num_classes: 10
mean: [0.5, 0.5, 0.5]
std: [0.25, 0.25, 0.25]
licence: none
"""
SCHEDULE = "description: short\nepochs: {epochs}\nbatch_size: 8\noptimizer: {{type: SGD, lr: 0.01}}\n"
PROFILE = """description: for tests
weights: scratch
starter: [mobilenet_v2_lite]
tasks:
  classification: {dataset: digits, input_size: 64, baseline: scratch, train: finetune}
"""
TARGET = """description: any device
sources: [{title: nowhere}]
opset: {max: 20, export: 18}
operators:
  Conv: {limits: [{kind: allowed_windows, only: [{kernel_max: 7}]}]}
  Relu: {}
"""


def recipe(source: str, extra: str = "") -> str:
    """A recipe's text."""
    return (
        f"description: a model\nsource: {{library: torchvision, model: {source}}}\n"
        f"task: classification\ntarget: device\n{extra}"
    )


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """A test that uses torch draws the same numbers in whatever order tests run."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@dataclass(frozen=True)
class Checkout:
    """A folder with recipes, configs, the real dodo.py and quick steps."""

    root: Path

    def command(self, *args: str) -> list[str]:
        """doit with these arguments."""
        return [sys.executable, "-m", "doit", *args]

    @property
    def environment(self) -> Mapping[str, str]:
        """Finds the quick steps and the packages under test."""
        return {**os.environ, "PYTHONPATH": f"{self.root}:{REPOSITORY}", "PYTHONDONTWRITEBYTECODE": "1"}

    def doit(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run doit to its end."""
        return subprocess.run(
            self.command(*args), cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=120
        )

    def built(self, *args: str) -> list[str]:
        """Build, which must succeed; returns the steps that ran."""
        self.forget()
        done = self.doit(*(args or ("build",)))
        assert done.returncode == 0, done.stdout + done.stderr
        return self.journal()

    def journal(self) -> list[str]:
        """The steps that ran, in order."""
        file = self.root / "journal"
        return file.read_text().split() if file.exists() else []

    def forget(self) -> None:
        """Empty the journal."""
        (self.root / "journal").unlink(missing_ok=True)

    def order(self, step: str, model: str, what: str) -> None:
        """Tell a step to do something else; nothing: to behave."""
        (self.root / "orders" / f"{step}-{model}").write_text(what)

    def folder(self, step: str, model: str = MODELS[0]) -> Path:
        """Where a step writes."""
        shared = self.root / "artifacts" / "demo"
        return shared / "data" / "digits" if step == "data" else shared / model / step

    def log(self, step: str, model: str = MODELS[0]) -> Path:
        """A step's log."""
        return self.root / "artifacts" / "demo" / model / "logs" / f"{step}.log"

    def record(self, step: str, model: str = MODELS[0]) -> dict:
        """A step's record."""
        return json.loads((self.folder(step, model) / "record.json").read_text())

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace text that must be there."""
        path = self.root / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


def wait_for(file: Path) -> str:
    """The content of a file that another process writes."""
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_text().endswith("\n")):
        assert time.monotonic() < deadline, f"{file} was not written"
        time.sleep(0.02)
    return file.read_text()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_the_end_of(pids: list[int]) -> None:
    deadline = time.monotonic() + 30
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "a step outlived its build"
        time.sleep(0.02)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Two models, nothing built."""
    root = tmp_path / "checkout"
    files = {
        "configs/datasets/digits.yaml": DATASET,
        "configs/schedules/scratch.yaml": SCHEDULE.format(epochs=2),
        "configs/schedules/finetune.yaml": SCHEDULE.format(epochs=1),
        "configs/targets/device.yaml": TARGET,
        "configs/profiles/demo.yaml": PROFILE,
        "recipes/torchvision/mobilenet_v2_lite.yaml": recipe("mobilenet_v2"),
        "recipes/torchvision/mobilenet_v3_small_lite.yaml": recipe("mobilenet_v3_small"),
        "fake_steps/__init__.py": "",
        "fake_steps/work.py": WORK,
        **{f"fake_steps/{step}.py": "from fake_steps.work import run\n" for step in STEPS},
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for folder in ("orders", "meeting"):
        (root / folder).mkdir()
    shutil.copy(REPOSITORY / "pyproject.toml", root)
    dodo = (REPOSITORY / "dodo.py").read_text()
    real = "pipeline.load(Path(__file__).parent)"
    assert real in dodo
    (root / "dodo.py").write_text(dodo.replace(real, 'pipeline.load(Path(__file__).parent, "fake_steps", ())'))
    return Checkout(root)


@pytest.fixture(scope="session")
def small_build(tmp_path_factory: pytest.TempPathFactory) -> "SmallBuild":
    """One small model, published; made once, so a test must not change it."""
    from small_build import prepare

    build = prepare(tmp_path_factory.mktemp("small"))
    build.export()
    build.release()
    build.index()
    return build


@pytest.fixture
def own_build(small_build: "SmallBuild", tmp_path: Path) -> "SmallBuild":
    """A copy of the small build for a test to publish in and to damage."""
    from small_build import SmallBuild

    shutil.copytree(small_build.root, tmp_path / "own")
    return SmallBuild(tmp_path / "own")
