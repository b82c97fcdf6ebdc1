"""The command `zoo`: what it prints, and its exit codes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from small_build import LABELS, NAME, SmallBuild, write_metrics

from zoo import commands
from zoo.cli import main
from zoo.predicting.predictions import Boxes, ClassMask
from zoo.releases import consumer
from zoo.tasks import classification


def zoo(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def test_list_prints_a_line_for_each_model(small_build: SmallBuild) -> None:
    done = zoo("list", "--index", str(small_build.zoo))
    header, line = done.stdout.splitlines()
    assert header.split()[:3] == ["name", "version", "task"]
    assert line.split()[:3] == [NAME, "1", "classification"]
    assert "87.5 % top-1 on speckles" in line
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
    assert "measured as     the evaluation that dataset speckles states\n" in done.stdout
    assert "hardswish_to_relu" in facts["edits"]
    assert facts["onnx"].startswith("model.onnx")
    released = json.loads((small_build.zoo / "models" / NAME / "v1" / "release.json").read_bytes())
    assert json.loads(zoo("show", NAME, "--version", "1", "--json", "--index", str(small_build.zoo)).stdout) == released


def test_lint_reads_a_release(small_build: SmallBuild) -> None:
    done = zoo("lint", NAME, "--target", "generic_int8", "--format", "json", "--index", str(small_build.zoo))
    found = json.loads(done.stdout)
    assert (found["model"], found["target"], done.exit_code) == (NAME, "generic_int8", 0 if found["clean"] else 1)
    assert found["summary"]["accelerated_macs"] > 0


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
    for figure in (NAME, "  top-1  ", "90.0 % (3 ep.)", "50.0 %", "87.5 % (2 ep.)", "->"):
        assert figure in plain[1]
    assert any(line.startswith("top-1: on speckles, 8 validation images") for line in plain)
    assert any("It is a stand-in that the build generates: no figure" in line for line in plain)
    assert any("MACs are FLOPs / 2" in line for line in plain)
    table = [line for line in zoo("results", "--markdown").stdout.splitlines() if line.startswith("|")]
    assert len(table) == 3
    assert len({line.count("|") for line in table}) == 1


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """An image of odd size, alone in its folder."""
    file = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (53, 37, 3), dtype=np.uint8)).save(file)
    return file


def test_predict_prints_the_best_classes_and_writes_nothing(small_build: SmallBuild, photo: Path) -> None:
    where = ("--index", str(small_build.zoo))
    done = zoo("predict", NAME, str(photo), *where)
    assert (done.exit_code, done.stderr) == (0, "")
    model = consumer.load(NAME, index=small_build.zoo)
    with torch.inference_mode():
        scores = model(model.preprocess(Image.open(photo))[None]).softmax(1)[0]
    best = scores.argsort(descending=True)[:5].tolist()
    assert done.stdout.splitlines() == [f"{scores[index] * 100:5.1f} %  {LABELS[index]}" for index in best]
    found = json.loads(zoo("predict", NAME, str(photo), "--version", "1", "--json", *where).stdout)
    expected = [{"label": LABELS[index], "score": pytest.approx(float(scores[index]))} for index in best]
    assert found == expected
    assert list(photo.parent.iterdir()) == [photo]


@pytest.mark.parametrize("name", ["out.png", "out.JPG", "out.webp", "out.bmp"])
def test_predict_draws(small_build: SmallBuild, photo: Path, name: str) -> None:
    output = photo.with_name(name)
    output.write_text("from before")
    done = zoo("predict", NAME, str(photo), "-o", str(output), "--index", str(small_build.zoo))
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, 5)
    with Image.open(output) as drawn:
        drawn.load()
    factor = 7  # at least 320 pixels of height
    assert (drawn.width, drawn.height > 53 * factor) == (37 * factor, True)
    if name == "out.png":
        enlarged = Image.open(photo).resize((37 * factor, 53 * factor), Image.Resampling.NEAREST)
        assert drawn.crop((0, 0, *enlarged.size)).tobytes() == enlarged.tobytes()
    assert sorted(photo.parent.iterdir()) == sorted([photo, output])


BOXES = Boxes(np.array([[1, 2, 30, 40.5]]), np.array([0.75]), np.array([3]), LABELS)
NOTHING = Boxes(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), LABELS)
MASK = ClassMask(np.repeat(np.array([[255, 0, 2, 2]], np.uint8), [1, 9, 26, 1], 1).repeat(53, 0), LABELS)


@pytest.mark.parametrize(
    ("prediction", "lines", "found"),
    [
        (BOXES, [" 75.0 %  3  1.0 2.0 30.0 40.5"], [{"label": "3", "score": 0.75, "box": [1.0, 2.0, 30.0, 40.5]}]),
        (NOTHING, ["nothing found"], []),
        (MASK, [" 75.0 %  2", " 25.0 %  0"], [{"label": "2", "share": 0.75}, {"label": "0", "share": 0.25}]),
    ],
    ids=["boxes", "nothing", "mask"],
)
def test_predict_tells_what_any_task_finds(
    small_build: SmallBuild,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    prediction: Boxes | ClassMask,
    lines: list[str],
    found: object,
) -> None:
    monkeypatch.setattr(classification, "predicted", lambda image, model, origin: prediction)
    output = photo.with_name("out.png")
    arguments = ("predict", NAME, str(photo), "-o", str(output), "--index", str(small_build.zoo))
    assert zoo(*arguments).stdout.splitlines() == lines
    assert json.loads(zoo(*arguments, "--json").stdout) == found
    assert Image.open(output).tobytes() == prediction.drawn(Image.open(photo)).tobytes()


def grey16(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L"), dtype=np.uint16) * 257)


def transparent(image: Image.Image) -> Image.Image:
    image.putalpha(128)
    return image


@pytest.mark.parametrize(
    "converted",
    [
        lambda image: image.convert("L"),
        grey16,
        lambda image: image.convert("1"),
        lambda image: image.quantize(16),
        transparent,
        lambda image: image.convert("LA"),
        lambda image: image.resize((1, 1)),
        lambda image: image.resize((500, 3)),
    ],
    ids=["grey", "16-bit", "1-bit", "palette", "transparent", "grey and alpha", "one pixel", "a line"],
)
def test_predict_takes_every_kind_of_image(
    small_build: SmallBuild, photo: Path, converted: Callable[[Image.Image], Image.Image]
) -> None:
    image = converted(Image.open(photo))
    image.save(photo)
    output = photo.with_name("out.png")
    arguments = ("predict", NAME, str(photo), "-o", str(output), "--json", "--index", str(small_build.zoo))
    done = zoo(*arguments)
    assert done.exit_code == 0, done.stderr
    model = consumer.load(NAME, index=small_build.zoo)
    with torch.inference_mode():
        scores = model(model.preprocess(image)[None]).softmax(1)[0]
    assert json.loads(done.stdout)[0]["score"] == pytest.approx(float(scores.max()))
    with Image.open(output) as drawn:
        assert drawn.mode == "RGB"


@pytest.mark.parametrize(
    ("image", "output", "message"),
    [
        ("nothing.png", None, "nothing.png: no such image file; check the path"),
        (".", None, "no such image file"),
        ("x" * 300 + ".png", None, "File name too long; check the path"),
        ("text.png", None, "text.png: not an image that can be decoded: cannot identify its format; give"),
        ("empty.png", None, "empty.png: not an image that can be decoded"),
        ("half.png", None, "half.png: not an image that can be decoded"),
        ("float.tif", None, "an image of floating-point numbers"),
        ("wide.tif", None, "an image of 32-bit integers from 0 to 1000000, whose range is not known"),
        ("photo.png", "out", "no picture can be written without a suffix; name it .png or .jpg"),
        ("photo.png", "out.pngg", "no picture can be written as '.pngg'; did you mean '.png'?"),
        ("photo.png", "out.xbm", "cannot be written"),
        ("photo.png", "nowhere/out.png", "there is no folder"),
        ("photo.png", "folder.png", "is a folder; name a file"),
        ("photo.png", "photo.png", "is the image itself, which would be lost; name another file"),
        ("photo.png", "linked.png", "is the image itself"),
    ],
)
def test_predict_says_in_one_line_what_it_cannot_use(
    small_build: SmallBuild, photo: Path, image: str, output: str | None, message: str
) -> None:
    folder, content = photo.parent, photo.read_bytes()
    (folder / "text.png").write_text("no image")
    (folder / "empty.png").touch()
    (folder / "half.png").write_bytes(content[: len(content) // 2])
    Image.fromarray(np.zeros((4, 4), np.float32)).save(folder / "float.tif")
    Image.fromarray(np.array([[0, 1_000_000]], np.int32)).save(folder / "wide.tif")
    (folder / "folder.png").mkdir()
    (folder / "linked.png").hardlink_to(photo)
    before = {path: path.is_file() and path.read_bytes() for path in folder.iterdir()}
    options = () if output is None else ("-o", str(folder / output))
    done = zoo("predict", NAME, str(folder / image), *options, "--index", str(small_build.zoo))
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("zoo: ")
    assert message in done.stderr
    assert {path: path.is_file() and path.read_bytes() for path in folder.iterdir()} == before


def test_a_full_disk_leaves_the_picture_as_it_was(
    small_build: SmallBuild, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = photo.with_name("out.png")
    output.write_text("from before")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zoo.atomic.replace_file", no_space)
    done = zoo("predict", NAME, str(photo), "-o", str(output), "--index", str(small_build.zoo))
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "out.png: cannot be written: [Errno 28] No space left on device" in done.stderr
    assert output.read_text() == "from before"
    assert sorted(photo.parent.iterdir()) == sorted([photo, output])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("predict", "mobilenet_v3_smal_lite", "x.png"), f"did you mean '{NAME}'?"),
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


@pytest.mark.parametrize("command", [("list",), ("show", "x"), ("predict", "x", "y"), ("verify",), ("results",)])
def test_no_index_exits_2_and_a_damaged_one_exits_1(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = zoo(*command, "--index", str(tmp_path / "index.json"))
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "there is no zoo here; build one with `doit build`" in done.stderr
    (tmp_path / "index.json").write_text("{")
    done = zoo(*command, "--index", str(tmp_path / "index.json"))
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "damaged" in done.stderr


@pytest.mark.parametrize("command", [(), *((name,) for name in commands.names())])
def test_every_command_has_help(command: tuple[str, ...]) -> None:
    done = zoo(*command, "--help")
    assert done.exit_code == 0
    assert done.stdout.startswith("Usage: ")
    assert len(done.stdout.splitlines()) > 5
