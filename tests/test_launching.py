"""Trainings that torchrun starts: the same as in one process, their errors, their end, and several nodes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_build import LABELS, NAME, ORIGIN, SmallBuild, prepare

from zoo import errors
from zoo.config import Launch
from zoo.errors import DatasetError, StepError, TrainingDiverged
from zoo.schedule import Optimizer, Schedule
from zoo.source_model import source_model
from zoo.steps import train
from zoo.training import join, launching, rank
from zoo.training.fitting import Fitting

TWO = Launch(launcher="torchrun", devices=2)
PLAN = Schedule(description="", epochs=2, batch_size=4, optimizer=Optimizer(lr=0.01), ema_decay=0.5)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallBuild:
    return prepare(tmp_path_factory.mktemp("launching"))


def fitting(small: SmallBuild, folder: Path, launch: Launch = TWO, schedule: Schedule = PLAN) -> Fitting:
    folder.mkdir(exist_ok=True, parents=True)
    return Fitting(
        name=NAME,
        origin=ORIGIN,
        schedule=schedule,
        launch=launch,
        data=small.folder("data"),
        folder=folder,
        key="k" * 64,
    )


def processes(word: str) -> list[int]:
    """Ids of the processes in whose command there is a word."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if word.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:  # it has just ended
            continue
    return found


def curve(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.mark.slow
def test_a_step_on_two_devices_is_the_step_on_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With a teacher, whose answers all of them hear; the record says on how many devices."""
    found, metrics = {}, {}
    for name, launch in (("one", Launch()), ("two", TWO)):
        build = prepare(tmp_path / name)
        settings = {
            "schedule": PLAN.model_dump(mode="json"),
            "teacher": True,
            "launch": launch.model_dump(mode="json"),
            "learning_rate_scaled_from": "0.02 at batch size 8",
        }
        train.run(build.job("train", settings))
        found[name] = curve(build.folder("train"))
        metrics[name] = json.loads((build.folder("train") / "metrics.json").read_bytes())
        assert not (build.folder("train") / "partial").exists()
    assert [row["epoch"] for row in found["two"]] == [1, 2]
    for ours, theirs in zip(found["two"], found["one"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-2)  # this network has dropout, which is each device's own
    assert {name: metrics["two"][name] for name in ("devices", "nodes", "batch_size", "learning_rate")} == {
        "devices": 2,
        "nodes": 1,
        "batch_size": 4,
        "learning_rate": 0.01,
    }
    assert metrics["two"]["learning_rate_scaled_from"] == "0.02 at batch size 8"
    different = {name for name in metrics["one"] if metrics["one"][name] != metrics["two"][name]}
    assert different <= {"devices", "seconds", "top1", "top5"}
    assert f"100% {NAME}: epoch 2/2" in capfd.readouterr().out


@pytest.mark.slow
def test_a_process_that_fails_says_why_in_one_line(small: SmallBuild, tmp_path: Path) -> None:
    broken = prepare(tmp_path / "broken")
    image = broken.folder("data") / "train" / LABELS[3] / "0000.png"
    image.write_bytes(image.read_bytes()[:50])
    with pytest.raises(DatasetError) as caught:
        launching.fit(source_model(ORIGIN), fitting(broken, tmp_path / "step"))
    assert str(caught.value).startswith(f"{image}: ")
    assert "\n" not in str(caught.value)
    assert not processes(str(tmp_path / "step"))


KILLED = """
import sys
from zoo.source_model import source_model
from zoo.training import launching
from zoo.training.fitting import Fitting
fitting = Fitting.model_validate_json(sys.argv[1])
launching.fit(source_model(fitting.origin), fitting)
"""


@pytest.mark.slow
def test_killing_the_step_kills_its_processes(small: SmallBuild, tmp_path: Path) -> None:
    endless = fitting(small, tmp_path / "step", schedule=PLAN.model_copy(update={"epochs": 100_000}))
    started = subprocess.Popen(
        [sys.executable, "-c", KILLED, endless.model_dump_json()], start_new_session=True, stdout=subprocess.DEVNULL
    )
    while not (tmp_path / "step" / "curve.jsonl").exists() and started.poll() is None:
        time.sleep(0.1)
    assert len(processes(rank.__name__)) >= 3  # torchrun and two of its processes
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    deadline = time.monotonic() + 60
    while (left := processes(str(endless.partial / launching.FITTING))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


@pytest.mark.slow
def test_two_nodes_train_together(small: SmallBuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launch = Launch(launcher="torchrun", nodes=2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    step = tmp_path / "artifacts" / "model" / "train"
    step.parent.mkdir(parents=True)
    command = [sys.executable, "-m", join.__name__, str(step)]
    other = subprocess.Popen(command, env={**os.environ, "NODE_RANK": "1"})
    model = source_model(ORIGIN)
    before = model.state_dict()["classifier.3.weight"].clone()
    fitted = launching.fit(model, fitting(small, step, launch))
    assert other.wait(60) == 0
    assert (fitted.epochs, fitted.training["nodes"]) == (2, 2)
    assert len(curve(step)) == 2
    assert not torch.equal(model.state_dict()["classifier.3.weight"], before)


def test_without_a_launcher_a_training_runs_here(small: SmallBuild, tmp_path: Path) -> None:
    fitted = launching.fit(source_model(ORIGIN), fitting(small, tmp_path, Launch()))
    assert (fitted.epochs, fitted.training["devices"]) == (2, 1)
    assert len(curve(tmp_path)) == 2


def test_what_several_nodes_need_is_asked_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launch = Launch(launcher="torchrun", devices=8, nodes=2)
    given = {"NODE_RANK": "0", "MASTER_ADDR": "node0", "MASTER_PORT": "29500"}
    for name in given:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        with pytest.raises(StepError, match=rf"^launch: 2 nodes, but \${name} is not set; set NODE_RANK \(0 on the"):
            launching.torchrun(launch, tmp_path)
        monkeypatch.setenv(name, value)
    command = launching.torchrun(launch, tmp_path / "fitting.json")
    assert command[3:] == [
        *("--nproc-per-node=8", "--nnodes=2", "--node-rank=0", "--master-addr=node0", "--master-port=29500"),
        *("-m", "zoo.training.rank", str(tmp_path / "fitting.json")),
    ]
    monkeypatch.setenv("MASTER_PORT", "http")
    with pytest.raises(StepError, match=r"\$MASTER_PORT is 'http', not a number"):
        launching.torchrun(launch, tmp_path)


def leave(place: Fitting, number: int, kind: str, text: str, at: float) -> None:
    place.partial.mkdir(parents=True, exist_ok=True)
    failed = {"kind": kind, "text": text, "rank": number, "at": at}
    (place.partial / rank.FAILED.format(number)).write_text(json.dumps(failed))


def test_the_first_cause_is_told_of_several(small: SmallBuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose neighbour is gone fails too, sooner or later."""
    place = fitting(small, tmp_path)

    def failing(*left: tuple[int, str, str, float]) -> errors.ZooError:
        def run(command: list[str], launch: Launch) -> int:
            for each in left:
                leave(place, *each)
            return 1

        monkeypatch.setattr(launching, "run", run)
        with pytest.raises(errors.ZooError) as caught:
            launching.fit(source_model(ORIGIN), place)
        assert "\n" not in str(caught.value)
        assert not (place.partial / launching.FITTING).exists()  # nothing that a further node could still join
        return caught.value

    lost, diverged = (0, "", "RuntimeError: connection closed", 1.0), (1, "TrainingDiverged", "the loss is nan", 2.0)
    found = failing(lost, diverged)
    assert isinstance(found, TrainingDiverged)
    assert str(found) == "the loss is nan"
    found = failing(lost, (1, "", "KeyError: 'x'", 0.5))
    assert str(found) == "process 1 of 2: KeyError: 'x'; its traceback is in the log"
    assert str(failing()).startswith(f"{NAME}: a process of 2 ended without a word (torchrun's exit code 1); the log")


@pytest.mark.parametrize(
    ("arguments", "number", "said"),
    [
        ([], "1", "usage: python -m zoo.training.join"),
        (["nowhere/at/all"], "1", "no such folder; name a step's below the artifacts that all nodes share"),
        (["model/train"], "0", "$NODE_RANK is 0, which is the node that builds"),
        (["one/train"], "1", "is trained on one node; set launch.nodes in the profile, or the recipe's train.nodes"),
    ],
)
def test_what_cannot_be_joined_is_said(
    small: SmallBuild,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    number: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NODE_RANK", number)
    alone = fitting(small, tmp_path / "one/train")
    alone.partial.mkdir(parents=True)
    (alone.partial / launching.FITTING).write_text(alone.model_dump_json())
    assert join.main(arguments) == 2
    assert said in capsys.readouterr().err
