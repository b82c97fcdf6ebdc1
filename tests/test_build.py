"""Builds by doit, with quick steps: what runs again, what fails, what a kill leaves."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import MODELS, STEPS, Checkout, is_alive, wait_for, wait_for_the_end_of

ONE, TWO = MODELS
RECIPE = f"recipes/torchvision/{ONE}.yaml"
AFTER = {step: list(STEPS[number:]) for number, step in enumerate(STEPS)}


def of(model: str, *steps: str) -> set[str]:
    return {f"{step}:{model}" for step in steps}


@contextlib.contextmanager
def hanging_build(checkout: Checkout, step: str = "train"):
    """A build whose step of one model hangs; yields it and the step's processes."""
    checkout.order(step, ONE, "hang")
    build = subprocess.Popen(
        checkout.command("build"),
        cwd=checkout.root,
        env=checkout.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield build, [int(pid) for pid in wait_for(checkout.root / "pids").split()]
    finally:
        build.kill()
        build.communicate()


def test_a_build_runs_each_step_once_and_a_second_build_none(checkout: Checkout) -> None:
    steps = checkout.built()
    assert set(steps) == {"data:digits"} | of(ONE, *AFTER["baseline"]) | of(TWO, *AFTER["baseline"])
    assert len(steps) == len(set(steps))
    done = checkout.doit("build")
    assert done.stdout.startswith("steps: 15 current;")
    assert checkout.journal() == steps
    assert not list(checkout.root.glob(".doit*"))
    record = checkout.record("train")
    assert record["summary"] == {"top1": 0.9125, "epochs": 3}
    assert set(record["outputs"]) == {"result.json", "deep/weights.bin"}
    log = checkout.log("train").read_text()
    assert record["key"] in log
    assert f"train:{ONE}" in log

    # What a reader sees of one edit after the other, in one checkout for speed.
    checkout.edit(RECIPE, "task: class", "# a comment\n\ntask: class")
    checkout.edit("configs/schedules/finetune.yaml", "description: short", "description: long # really")
    checkout.edit("fake_steps/train.py", "import run", "import run  # a comment")
    assert checkout.built() == []

    checkout.edit(RECIPE, "task: class", "train: {lr: 0.02}\ntask: class")
    checkout.forget()
    done = checkout.doit("build")
    assert set(checkout.journal()) == of(ONE, *AFTER["train"])
    assert "runs again: schedule.optimizer.lr changed from 0.01 to 0.02" in done.stdout

    checkout.edit(RECIPE, "description: a model", "description: the model")
    assert set(checkout.built()) == of(ONE, "release", "index")

    checkout.edit("fake_steps/export.py", "import run", "import run\n\nX = 1")
    # The code of one step runs it again; its outputs are the same, so nothing follows.
    assert set(checkout.built()) == of(ONE, "export") | of(TWO, "export")

    (checkout.root / "artifacts/demo/zoo/index.json").write_text("{}")
    assert set(checkout.built()) == of(ONE, "index") | of(TWO, "index")


@pytest.mark.parametrize("damage", ["delete", "truncate", "flip", "delete folder"])
def test_each_damaged_output_is_built_again(checkout: Checkout, damage: str) -> None:
    checkout.built()
    names = ["record.json"] if damage == "delete folder" else ["record.json", "result.json", "deep/weights.bin"]
    for name in names:
        files = {step: checkout.folder(step) / name for step in STEPS}
        contents = {step: file.read_bytes() for step, file in files.items()}
        for step, file in files.items():
            damaging(damage, file, contents[step])
        # Every step gives the same outputs again, so those of the other model are let alone.
        assert set(checkout.built()) == {"data:digits"} | of(ONE, *AFTER["baseline"])
        if name != "record.json":
            assert {step: file.read_bytes() for step, file in files.items()} == contents


def damaging(damage: str, file: Path, content: bytes) -> None:
    match damage:
        case "delete":
            file.unlink()
        case "truncate":
            file.write_bytes(content[: len(content) // 2])
        case "flip":
            file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        case "delete folder":
            shutil.rmtree(file.parent)


def test_one_damaged_output_runs_one_step(checkout: Checkout) -> None:
    checkout.built()
    (checkout.folder("train") / "deep" / "weights.bin").write_bytes(b"")
    done = checkout.doit("build")
    assert f"{ONE}" in done.stdout
    assert "deep/weights.bin has 0 bytes instead of 3200" in done.stdout
    assert "1 done" in done.stdout


def test_kill_9_loses_only_the_running_step(checkout: Checkout) -> None:
    with hanging_build(checkout) as (build, pids):
        assert all(is_alive(pid) for pid in pids)
        build.send_signal(signal.SIGKILL)
        wait_for_the_end_of(pids)
    finished = set(checkout.journal()) - {f"train:{ONE}"}
    assert {"data:digits"} | of(ONE, "baseline", "surgery", "check") <= finished
    assert (checkout.folder("train") / "half.bin").exists()
    assert not (checkout.folder("train") / "record.json").exists()
    checkout.order("train", ONE, "")
    again = set(checkout.built())
    assert not again & finished
    assert of(ONE, *AFTER["train"]) <= again
    assert not (checkout.folder("train") / "half.bin").exists()
    assert checkout.built() == []


def test_kill_9_of_a_step_that_runs_again_does_not_leave_its_old_record(checkout: Checkout) -> None:
    checkout.built()
    checkout.edit("configs/schedules/finetune.yaml", "lr: 0.01", "lr: 0.02")
    with hanging_build(checkout) as (build, pids):
        build.send_signal(signal.SIGKILL)
        wait_for_the_end_of(pids)
    checkout.edit("configs/schedules/finetune.yaml", "lr: 0.02", "lr: 0.01")
    checkout.order("train", ONE, "")
    assert f"train:{ONE}" in checkout.built()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_build_ends_its_steps_and_says_so(checkout: Checkout, sent: signal.Signals, code: int) -> None:
    with hanging_build(checkout) as (build, pids):
        build.send_signal(sent)
        output, _ = build.communicate(timeout=60)
        assert build.returncode == code
        assert "what is finished is kept" in output
        assert "Traceback" not in output
        wait_for_the_end_of(pids)


def test_a_failing_model_does_not_stop_the_other(checkout: Checkout) -> None:
    checkout.order("surgery", ONE, "fail")
    done = checkout.doit("-n", "2", "build")
    assert done.returncode == 1
    assert of(TWO, *AFTER["baseline"]) <= set(checkout.journal())
    assert not set(checkout.journal()) & of(ONE, *AFTER["check"])
    table = done.stdout.partition("\nfailed:\n")[2]
    assert f"{ONE}  surgery: the loss is not finite; lower the learning rate" in table
    assert f"log: {checkout.log('surgery')}" in table
    assert "not run because of it: check, train, export, release, index" in table
    assert "9 done" in table
    assert "1 failed" in table
    assert "Traceback" not in checkout.log("surgery").read_text()
    checkout.order("surgery", ONE, "")
    assert set(checkout.built()) == of(ONE, *AFTER["surgery"])


@pytest.mark.parametrize(
    ("order", "cause", "log"),
    [
        ("bug", "KeyError: 'nothing here'", "Traceback"),
        ("crash", "crashed with SIGKILL; perhaps memory ran out", "key"),
        ("exit", "ended without a result (exit code 7)", "key"),
    ],
)
def test_a_crash_is_that_steps_failure(checkout: Checkout, order: str, cause: str, log: str) -> None:
    checkout.order("baseline", ONE, order)
    done = checkout.doit(f"surgery:{ONE}", f"surgery:{TWO}")
    assert done.returncode == 1
    assert f"baseline: {cause}" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert log in checkout.log("baseline").read_text()
    assert f"surgery:{TWO}" in checkout.journal()


def test_parallel_steps_meet_and_share_the_threads(checkout: Checkout) -> None:
    for model in MODELS:
        checkout.order("train", model, "meet 2")
    checkout.built("-n", "2", "build")
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    for model in MODELS:
        assert f"threads {threads} {threads}\n" in checkout.log("train", model).read_text()


def test_two_builds_at_once_do_each_step_once(checkout: Checkout) -> None:
    builds = [
        subprocess.Popen(
            checkout.command("-n", "2", "build"),
            cwd=checkout.root,
            env=checkout.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [build.communicate(timeout=120)[0] for build in builds]
    assert [build.returncode for build in builds] == [0, 0], outputs
    assert len(checkout.journal()) == len(set(checkout.journal())) == 15


def test_one_model_and_the_starter(checkout: Checkout) -> None:
    assert set(checkout.built(f"release:{TWO}")) == {"data:digits"} | of(TWO, *AFTER["baseline"][:-1])
    assert set(checkout.built("starter")) == of(ONE, *AFTER["baseline"])
    assert checkout.built(f"build:{TWO}") == [f"index:{TWO}"]


def test_a_step_can_be_asked_for_though_it_is_current(checkout: Checkout) -> None:
    checkout.built()
    assert checkout.built("-s", "-a", f"train:{ONE}") == [f"train:{ONE}"]


def test_a_step_alone_names_what_it_lacks(checkout: Checkout) -> None:
    done = checkout.doit("-s", f"train:{ONE}")
    assert done.returncode == 1
    assert "data of digits is not built; run `doit data:digits`" in done.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("release:nosuch",), "'release:nosuch' is not a task; see `doit list --all`"),
        (("build", "profile=dmo"), "did you mean 'demo'?"),
    ],
)
def test_wrong_names_on_the_command_line(checkout: Checkout, args: tuple[str, ...], message: str) -> None:
    done = checkout.doit(*args)
    assert done.returncode == 2
    assert message in done.stderr
    assert len((done.stdout + done.stderr).splitlines()) == 1


def test_bad_input_is_reported_at_once_and_nothing_is_built(checkout: Checkout) -> None:
    checkout.edit(RECIPE, "task: class", "trian: {}\ntask: class")
    checkout.edit("configs/schedules/finetune.yaml", "lr: 0.01", "lr: fast")
    for args in (("build",), ("list",)):
        done = checkout.doit(*args)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 2
        assert "Traceback" not in done.stderr
    assert not (checkout.root / "artifacts").exists()


@pytest.mark.parametrize("args", [("list",), ("build",)])
def test_no_framework_is_imported_where_nothing_is_built(checkout: Checkout, args: tuple[str, ...]) -> None:
    checkout.built()
    program = (
        "import json, sys\nfrom doit.doit_cmd import DoitMain\ncode = DoitMain().run(sys.argv[1:])\n"
        "print(json.dumps([code, sorted({name.partition('.')[0] for name in sys.modules})]))"
    )
    done = subprocess.run(
        [*checkout.command()[:1], "-c", program, *args],
        cwd=checkout.root,
        env=checkout.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    code, modules = json.loads(done.stdout.splitlines()[-1])
    assert code == 0
    heavy = {
        "torch",
        "torchvision",
        "numpy",
        "mmengine",
        "onnx",
        "onnxruntime",
        "surgery",
        "rich",
        "multiprocessing.spawn",
    }
    assert not heavy & set(modules)


def test_the_list_explains_the_steps(checkout: Checkout) -> None:
    lines = checkout.doit("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [*STEPS, "build", "starter"]
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize("place", ["artifacts", "artifacts/demo/mobilenet_v2_lite/logs"])
def test_a_file_where_a_folder_should_be_is_one_line(checkout: Checkout, place: str) -> None:
    (checkout.root / place).parent.mkdir(parents=True, exist_ok=True)
    (checkout.root / place).touch()
    done = checkout.doit("baseline:mobilenet_v2_lite")
    assert done.returncode == 1
    assert "make it a folder that can be written" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("command", ["forget", "clean"])
def test_commands_of_doit_that_build_nothing_work_before_the_first_build(checkout: Checkout, command: str) -> None:
    done = checkout.doit(command)
    assert "Traceback" not in done.stdout + done.stderr
