"""`zoo lint` and `zoo targets`: what they print and how they end."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
from lint_models import TARGET, chain, saved, zoo
from onnx import TensorProto, helper

from zoo import index
from zoo.index import Entry
from zoo.linting import subject


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a target; there is no zoo in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZOO_INDEX", raising=False)
    (tmp_path / "configs" / "targets").mkdir(parents=True)
    (tmp_path / "configs" / "targets" / "tiny.yaml").write_text(TARGET)
    return tmp_path


def test_a_clean_model_is_two_lines_and_exits_0() -> None:
    done = zoo("lint", saved(*chain("Conv", "Relu")), "--target", "tiny", "--device", "one")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == ("model.onnx: clean on tiny (ONE): all 2 nodes are accelerated\n2.3 k MACs in 1 subgraph\n")


def test_a_refused_model_exits_1_and_says_what_where_and_how_much() -> None:
    done = zoo("lint", saved(*chain("Conv", "HardSwish", "Conv", "HardSwish")), "--target", "tiny")
    assert (done.exit_code, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "model.onnx: not clean on tiny: 2 of 4 nodes are not accelerated"
    assert lines[2] == "2 errors: not accelerated, or not imported"
    assert lines[3].startswith("    2x  HardSwish is not accelerated -> ")
    assert lines[4] == "        HardSwish_1, HardSwish_3"
    assert "accelerated  50.0 % of nodes (2 of 4), 100.0 % of MACs (4.6 k of 4.6 k)" in lines
    assert "runs in      2 subgraphs; the largest has 1 node and 50.0 % of MACs" in lines


def test_a_device_differs_and_is_known_by_its_aliases() -> None:
    model = saved(*chain("Conv", "Relu"))
    assert zoo("lint", model, "--target", "tiny", "--device", "uno").exit_code == 0
    done = zoo("lint", model, "--target", "tiny", "--device", "TWO")
    assert done.exit_code == 1
    assert "not clean on tiny (TWO): 1 of 2 nodes is not accelerated" in done.stdout
    assert zoo("lint", model, "--target", "tiny").exit_code == 1  # what any device refuses


def test_every_node_is_listed_with_all() -> None:
    done = zoo("lint", saved(*chain("Conv", "Relu")), "--target", "tiny", "--device", "ONE", "--all")
    assert done.exit_code == 0
    assert [line.split() for line in done.stdout.splitlines() if line.startswith("  accelerated")] == [
        ["accelerated", "0", "2.3", "k", "Conv", "Conv_0"],
        ["accelerated", "0", "0", "Relu", "Relu_1"],
    ]


def test_json_goes_to_programs_and_any_format_into_a_file(folder: Path) -> None:
    model = saved(*chain("HardSwish"))
    found = json.loads(zoo("lint", model, "--target", "tiny", "--format", "json").stdout)
    assert (found["model"], found["target"], found["clean"]) == ("model.onnx", "tiny", False)
    for name, begins in (("html", "<!DOCTYPE html>"), ("sarif", "{"), ("json", "{"), ("table", "model.onnx: not")):
        done = zoo("lint", model, "--target", "tiny", "--format", name, "-o", f"report.{name}")
        assert (done.exit_code, done.stdout) == (1, "")
        assert (folder / f"report.{name}").read_text().startswith(begins)


def test_several_targets_are_compared_a_line_each() -> None:
    model = saved(*chain("Conv", "HardSwish"))
    done = zoo("lint", model, "--target", "tiny", "--device", "all")
    assert done.exit_code == 1
    header, *lines = [line.split() for line in done.stdout.splitlines()]
    assert header == ["target", "verdict", "nodes", "MACs", "subgraphs", "the", "largest"]
    assert [line[:4] for line in lines] == [["tiny", "(ONE)", "1", "error"], ["tiny", "(TWO)", "1", "error"]]
    Path("configs/targets/wide.yaml").write_text(TARGET.replace("Relu", "HardSwish").replace("TWO", "THREE"))
    lines = zoo("lint", model, "--target", "tiny", "--target", "wide", "--device", "THREE").stdout.splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["tiny", "no", "such", "device"],
        ["wide", "(THREE)", "1", "error"],
    ]
    every = zoo("lint", model, "--target", "all").stdout.splitlines()[1:]
    known = list(json.loads(zoo("targets", "--json").stdout))
    assert sorted(line.split()[0] for line in every) == known
    assert {"tiny", "wide", "generic_int8", "tidl-9.1"} <= set(known)


def test_a_target_may_be_a_file_of_its_own(folder: Path) -> None:
    (folder / "mine.yaml").write_text(TARGET)
    done = zoo("lint", saved(*chain("Conv")), "--target", "mine.yaml")
    assert done.exit_code == 0
    assert done.stdout.startswith("model.onnx: clean on mine.yaml: its one node is accelerated\n")


def test_a_model_that_the_file_leaves_open_is_not_clean_however_it_is_asked(folder: Path) -> None:
    wide = "operators: {Relu: {limits: [{kind: plane_max, value: 100}]}}"
    text = "description: d\nsources: [{title: t}]\nopset: {max: 18, export: 18}\n" + wide
    (folder / "configs" / "targets" / "plane.yaml").write_text(text)
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, "h", "w"])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", [image], [made])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), "open.onnx")
    done = zoo("lint", "open.onnx", "--target", "plane")
    assert done.stdout.startswith("open.onnx: open on plane: nothing is refused, but 1 of 1 node cannot be judged\n")
    compared = zoo("lint", "open.onnx", "--target", "plane", "--target", "tiny")
    assert "1 node open" in compared.stdout
    told = zoo("lint", "open.onnx", "--target", "plane", "--format", "json")
    found = json.loads(told.stdout)
    assert (found["clean"], found["summary"]["unknown_nodes"]) == (False, 1)
    sarif = zoo("lint", "open.onnx", "--target", "plane", "--format", "sarif")
    assert json.loads(sarif.stdout)["runs"][0]["properties"]["clean"] is False
    assert {each.exit_code for each in (done, compared, told, sarif)} == {1}


def test_what_follows_the_boundary_is_the_hosts() -> None:
    model = saved(*chain("Conv", "Exp"))
    assert zoo("lint", model, "--target", "tiny").exit_code == 1
    done = zoo("lint", model, "--target", "tiny", "--host", "v1")
    assert done.exit_code == 0
    assert "1 node that the host runs by design" in done.stdout
    done = zoo("lint", model, "--target", "tiny", "--host", "v2")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "v2" in done.stderr


def test_a_release_brings_its_target_and_its_boundary(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"onnx": folder / saved(*chain("Conv", "Exp")), "detection_head": folder / "head.json"}
    files["detection_head"].write_text(json.dumps({"levels": [{"tensors": {"boxes": "v1"}}]}))
    manifest = SimpleNamespace(
        files=files, target="tiny", onnx=SimpleNamespace(host=()), lint=SimpleNamespace(device="ONE")
    )
    release = SimpleNamespace(file=files.__getitem__, manifest=manifest)
    asked = []

    def get(name: str, version: int | None, *, index: str | None) -> SimpleNamespace:
        asked.append((name, version, index))
        return release

    monkeypatch.setattr(subject.consumer, "get", get)
    done = zoo("lint", "detector_lite", "--version", "3", "--index", "somewhere")
    assert (done.exit_code, asked) == (0, [("detector_lite", 3, "somewhere")])
    assert done.stdout.startswith("detector_lite: clean on tiny (ONE): its one node is accelerated\n")
    for content in ("", "[]", '{"levels": [{"tensors": null}]}'):
        files["detection_head"].write_text(content)
        done = zoo("lint", "detector_lite")
        assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
        assert "head.json: not a description of a detection head" in done.stderr
    manifest.onnx.host, manifest.lint = ("v1",), None
    assert zoo("lint", "detector_lite").stdout.startswith("detector_lite: clean on tiny: its one node")


def entry(name: str, version: int, targets: tuple[str, ...]) -> Entry:
    figures = {"metric": "top1", "value": 0.9, "source_value": 0.9, "macs": 1, "parameters": 1, "speed_up": 1.0}
    about = {"task": "classification", "lite": True, "source": "torchvision/x", "dataset": "digits"}
    return Entry(name=name, version=version, release_sha256="0" * 64, targets=targets, **about, **figures)  # type: ignore[arg-type]


def test_releases_are_listed_by_the_targets_that_refuse_nothing_of_them(folder: Path) -> None:
    released = (
        entry("a_lite", 1, ("generic_int8", "tiny")),
        entry("b_lite", 1, ("tiny",)),
        entry("b_lite", 2, ("tidl-9.1",)),
        entry("c_lite", 1, ()),
    )
    for each in released:
        index.add(folder, each, rebuild=lambda: ())
    for target, names in (("tiny", ["a_lite"]), ("tidl-9.1", ["b_lite"]), ("tidl-8.6", [])):
        done = zoo("list", "--target", target, "--index", str(folder))
        assert done.exit_code == 0
        assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == names
    found = json.loads(zoo("list", "a*", "--target", "tiny", "--json", "--index", str(folder)).stdout)
    assert found[0]["targets"] == ["generic_int8", "tiny"]
    assert json.loads(zoo("list", "b*", "--target", "tiny", "--json", "--index", str(folder)).stdout) == []
    done = zoo("list", "--target", "tinny", "--index", str(folder))
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "zoo: no target 'tinny'; did you mean 'tiny'?\n"


def test_targets_lists_what_there_is() -> None:
    done = zoo("targets")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    start = lines.index("tiny                    Convolutions and what follows them.")
    assert [line.strip() for line in lines[start + 1 :][:2]] == [
        "2 operators, opset 18 at most",
        "devices: ONE (UNO), TWO",
    ]
    assert max(map(len, lines)) <= 110


def test_help_is_instant_and_lint_of_a_clean_model_needs_no_torch(folder: Path) -> None:
    saved(*chain("Conv"))
    heavy = "print([m for m in ('torch', 'numpy', 'onnx', 'pydantic', 'rich', 'yaml') if m in sys.modules])"
    for arguments, loaded in ((["--help"], "[]"), (["lint", "model.onnx", "--target", "tiny"], None)):
        code = f"import sys; from zoo.cli import main\nmain({arguments!r}, standalone_mode=False)\n{heavy}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        last = done.stdout.splitlines()[-1]
        assert last == loaded if loaded else "'torch'" not in last
