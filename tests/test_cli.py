"""The command `zoo`: what it prints, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from small_build import NAME, SmallBuild, write_metrics

from zoo.cli import main


def zoo(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def test_list_prints_a_line_for_each_model(small_build: SmallBuild) -> None:
    done = zoo("list", "--index", str(small_build.zoo))
    header, line = done.stdout.splitlines()
    assert header.split()[:3] == ["name", "version", "task"]
    assert line.split()[:3] == [NAME, "1", "classification"]
    assert "87.5 % top1 on speckles" in line
    assert done.exit_code == 0


def test_list_filters_and_prints_json(small_build: SmallBuild) -> None:
    arguments = ("--index", str(small_build.zoo), "--json")
    found = json.loads(zoo("list", "mobile*", "--task", "classification", *arguments).stdout)
    assert [(entry["name"], entry["version"], entry["value"]) for entry in found] == [(NAME, 1, 0.875)]
    assert json.loads(zoo("list", "resnet*", *arguments).stdout) == []
    assert json.loads(zoo("list", "--task", "detection", *arguments).stdout) == []


def test_list_imports_no_torch_and_nothing_slow(small_build: SmallBuild) -> None:
    code = (
        "import sys; from zoo.cli import main\n"
        f"main(['list', '--index', {str(small_build.zoo)!r}], standalone_mode=False)\n"
        "print([m for m in ('torch', 'torchvision', 'numpy', 'pydantic', 'rich', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert NAME in done.stdout
    assert done.stdout.endswith("\n[]\n")


def test_show_prints_what_is_known(small_build: SmallBuild) -> None:
    done = zoo("show", NAME, "--index", str(small_build.zoo))
    assert done.exit_code == 0
    facts = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert facts["name"] == f"{NAME} v1"
    assert facts["source"].startswith("torchvision/mobilenet_v3_small")
    assert facts["lite"] == "yes"
    assert "hardswish_to_relu" in facts["edits"]
    assert facts["onnx"].startswith("model.onnx")
    released = json.loads((small_build.zoo / "models" / NAME / "v1" / "release.json").read_bytes())
    assert json.loads(zoo("show", NAME, "--version", "1", "--json", "--index", str(small_build.zoo)).stdout) == released


def test_verify_finds_every_damage(own_build: SmallBuild) -> None:
    where = ("--index", str(own_build.zoo))
    done = zoo("verify", *where)
    assert (done.exit_code, done.stdout) == (0, "1 of 1 releases are as they were released\n")
    write_metrics(own_build, "train", 0.7)
    own_build.release()
    done = zoo("verify", *where)
    assert done.exit_code == 1
    assert f"{NAME} v2: it is not in the index" in done.stderr
    own_build.index()
    assert zoo("verify", *where).exit_code == 0
    weights = own_build.zoo / "models" / NAME / "v1" / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (own_build.zoo / "models" / NAME / "v2" / "release.json").unlink()
    done = zoo("verify", NAME, *where)
    assert done.exit_code == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{NAME} v1: {weights}: not as it was released: its SHA-256 is not the release's")
    assert "No such file" in lines[1]
    assert done.stdout == "0 of 2 releases are as they were released\n"


def test_results_are_before_and_after(small_build: SmallBuild, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small_build.root)
    plain = zoo("results", "--profile", "demo").stdout.splitlines()
    assert plain[0].split("  ")[0] == "model"
    for figure in (NAME, "90.0 % (3 ep.)", "50.0 %", "87.5 % (2 ep.)", "->"):
        assert figure in plain[1]
    assert any(line.startswith("Accuracy: top1 on speckles, 8 validation images") for line in plain)
    assert any("It is a stand-in that the build generates, not ImageNet" in line for line in plain)
    assert any("MACs are FLOPs / 2" in line for line in plain)
    table = [line for line in zoo("results", "--markdown").stdout.splitlines() if line.startswith("|")]
    assert len(table) == 3
    assert len({line.count("|") for line in table}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "mobilenet_v3_smal_lite"), f"did you mean '{NAME}'?"),
        (("show", NAME, "--version", "9"), "no version 9; known: 1"),
        (("verify", "nothing"), "no release 'nothing'"),
    ],
)
def test_unknown_names_exit_2_in_one_line(small_build: SmallBuild, arguments: tuple[str, ...], message: str) -> None:
    done = zoo(*arguments, "--index", str(small_build.zoo))
    assert done.exit_code == 2
    assert done.stderr.startswith("zoo: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [("list",), ("show", "x"), ("verify",), ("results",)])
def test_no_index_exits_2_and_a_damaged_one_exits_1(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = zoo(*command, "--index", str(tmp_path / "index.json"))
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "there is no zoo here; build one with `doit build`" in done.stderr
    (tmp_path / "index.json").write_text("{")
    done = zoo(*command, "--index", str(tmp_path / "index.json"))
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "damaged" in done.stderr


@pytest.mark.parametrize("command", [(), ("list",), ("show",), ("verify",), ("results",)])
def test_every_command_has_help(command: tuple[str, ...]) -> None:
    done = zoo(*command, "--help")
    assert done.exit_code == 0
    assert done.stdout.startswith("Usage: ")
    assert len(done.stdout.splitlines()) > 5
