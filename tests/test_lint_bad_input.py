"""`zoo lint` of models, files and options that cannot be used, or hardly: a clear answer, never a traceback."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from lint_models import TARGET, chain, control_flow, saved, zoo
from onnx import helper


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a target; there is no zoo in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZOO_INDEX", raising=False)
    (tmp_path / "configs" / "targets").mkdir(parents=True)
    (tmp_path / "configs" / "targets" / "tiny.yaml").write_text(TARGET)
    return tmp_path


@pytest.mark.parametrize("op", ["If", "Loop"])
def test_control_flow_is_refused_in_words(op: str) -> None:
    done = zoo("lint", control_flow(op), "--target", "tiny")
    assert (done.exit_code, done.stderr) == (1, "")
    assert f" {op} " in done.stdout


def test_a_domain_of_ones_own_is_refused_in_words() -> None:
    done = zoo(
        "lint", saved(helper.make_node("Swish", ["x"], ["y"], domain="acme"), domains=("acme",)), "--target=tiny"
    )
    assert (done.exit_code, done.stderr) == (1, "")
    assert "acme.Swish" in done.stdout


def test_a_model_without_shapes_says_what_is_not_known() -> None:
    saved(*chain("Conv", "Relu"))
    model = onnx.load("model.onnx")
    model.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(model, "model.onnx")
    done = zoo("lint", "model.onnx", "--target", "tiny", "--device", "ONE")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "input x has no shape" in done.stdout


def test_an_opset_that_the_device_does_not_read_is_an_error() -> None:
    done = zoo("lint", saved(*chain("Conv"), opset=19), "--target", "tiny")
    assert done.exit_code == 1
    assert "opset 19, at most 18" in done.stdout
    assert done.stdout.startswith("model.onnx: not clean on tiny: no node is refused, but 1 error of the whole model")
    compared = zoo("lint", "model.onnx", "--target", "tiny", "--device", "all").stdout.splitlines()[1:]
    assert [line.split()[:5] for line in compared] == [
        ["tiny", f"({name})", "1", "error:", "opset"] for name in ("ONE", "TWO")
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.onnx", None, "gone.onnx: no such file; check the path"),
        ("some/where", None, "some/where: no such file; check the path"),
        ("configs", None, "configs: is a folder; name the .onnx file in it"),
        ("x" * 300, None, "File name too long"),
        ("not_a_release", None, "not_a_release: no such file, and as a release: "),
        ("empty.onnx", b"", "empty.onnx: is empty"),
        ("text.onnx", b"no model at all", "text.onnx: not an ONNX file"),
        ("noise.onnx", bytes(range(256)) * 8, "noise.onnx: not an ONNX file"),
    ],
)
def test_a_file_of_no_use_exits_2_in_one_line(folder: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (folder / name).write_bytes(content)
    done = zoo("lint", name, "--target", "tiny")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("zoo: ")
    assert message in done.stderr


def test_a_truncated_model_exits_2(folder: Path) -> None:
    content = Path(saved(*chain("Conv", "Relu", "Conv"))).read_bytes()
    for length in (len(content) // 3, len(content) // 2, len(content) - 7):
        (folder / "half.onnx").write_bytes(content[:length])
        done = zoo("lint", "half.onnx", "--target", "tiny")
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_a_model_with_changed_bytes_is_judged_or_refused(folder: Path) -> None:
    content = Path(saved(*chain("Conv", "Relu", "Exp"))).read_bytes()
    random, ends = np.random.default_rng(0), set()
    for _ in range(150):
        damaged = bytearray(content)
        for place in random.integers(0, len(content), 3):
            damaged[place] = random.integers(0, 256)
        (folder / "damaged.onnx").write_bytes(damaged)
        done = zoo("lint", "damaged.onnx", "--target", "tiny", "--all")
        ends.add(done.exit_code)
        assert done.exit_code == 1 or (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert ends == {1, 2}


def test_an_opset_that_nobody_knows_is_told() -> None:
    done = zoo("lint", saved(*chain("Conv"), opset=9999), "--target", "tiny")
    assert done.exit_code in (1, 2)
    assert "9999" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "an ONNX file does not say its target; give --target, one of "),
        (("--target", "tinny"), "did you mean 'tiny'?"),
        (("--target", "nowhere.yaml"), "nowhere.yaml"),
        (("--target", "tiny", "--device", "thre"), "no device 'thre'"),
        (("--target", "tiny", "--target", "tinny"), "did you mean 'tiny'?"),
        (("--target", "tiny", "--target", "generic_int8", "--device", "thre"), "no device 'thre'"),
        (("--target", "tiny", "-o", "no/where.txt"), "there is no folder no"),
        (("--target", "tiny", "-o", "configs"), "is a folder; name a file"),
        (("--target", "tiny", "--format", "xml"), "'xml' is not one of"),
        (("--target", "tiny", "--format", "html", "--all"), "--all is for --format table"),
        (("--target", "all", "--format", "sarif"), "--format and --all are for one"),
        (("--target", "all", "--all"), "--format and --all are for one"),
    ],
)
def test_options_of_no_use_exit_2(options: tuple[str, ...], message: str) -> None:
    done = zoo("lint", saved(*chain("Conv")), *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_names_in_a_file_command_neither_terminal_nor_page() -> None:
    model = saved(helper.make_node("Exp", ["x"], ["y"], name="<img src=evil>"))
    for arguments in (("--all",), (), ("--format", "sarif"), ("--format", "html"), ("--format", "json")):
        done = zoo("lint", model, "--target", "tiny", *arguments)
        assert done.exit_code == 1
        assert ("&lt;img src=evil&gt;" if "html" in arguments else "<img src=evil>") in done.stdout
        assert not ("html" in arguments and "<img" in done.stdout)
    done = zoo("lint", saved(helper.make_node("Exp", ["x"], ["y"], name="\x1b[2J\r\u202eevil")), "--target", "tiny")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.rstrip("\n").isprintable()


def test_a_package_that_is_not_installed_is_named() -> None:
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "from zoo.cli import main; main(['lint', 'model.onnx', '--target', 'tiny'])"
    )
    saved(*chain("Conv"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "zoo: the package onnx is not installed; pip install 'lite-zoo[build]'\n"
