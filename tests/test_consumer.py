"""The consumer: finds releases, gets files that are proved, loads models; and is told in one line what is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from small_build import NAME, ORIGIN, SIZE, SmallBuild, write_metrics

import surgery
import zoo
from zoo import atomic, index
from zoo.errors import (
    IntegrityError,
    MissingIndex,
    UnknownName,
    UnsupportedFormat,
    WeightsMismatch,
)
from zoo.rebuild import lite_model
from zoo.releases import release
from zoo.source_model import load_weights, save_weights


def rewrite(build: SmallBuild, kind: str, content: bytes, *, fingerprint: str | None = None) -> None:
    """A release with another file, all of its digests right: what only a broken build could publish."""
    folder = build.zoo / "models" / NAME / "v1"
    manifest = json.loads((folder / "release.json").read_bytes())
    path = folder / manifest["files"][kind]["path"]
    path.unlink()
    path.write_bytes(content)
    manifest["files"][kind].update(sha256=release.file_sha256(path), size=len(content))
    manifest["fingerprint"] = fingerprint or manifest["fingerprint"]
    atomic.write_json(folder / "release.json", manifest)
    found, sha256 = release.read(build.zoo, NAME, 1)
    index.add(build.zoo, found.entry(sha256), rebuild=list)


def test_the_public_surface_is_this() -> None:
    assert zoo.__all__ == ["Release", "get", "list_models", "load"]
    public = {name for name in vars(zoo.Release) if not name.startswith("_")}
    assert public | set(zoo.Release.__annotations__) == {
        "name", "version", "folder", "manifest", "file", "load", "transform",
    }  # fmt: skip


def test_import_zoo_imports_nothing_heavy() -> None:
    code = "import sys, zoo; print([m for m in ('torch', 'numpy', 'pydantic', 'rich', 'onnx') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_names_are_listed_by_pattern_and_task(small_build: SmallBuild) -> None:
    assert zoo.list_models(index=small_build.zoo) == [NAME]
    assert zoo.list_models("mobilenet*", task="classification", index=small_build.zoo / "index.json") == [NAME]
    assert zoo.list_models("resnet*", index=small_build.zoo) == []
    assert zoo.list_models(task="detection", index=str(small_build.zoo)) == []


def test_the_zoo_is_found_by_variable_or_in_the_working_directory(
    small_build: SmallBuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZOO_INDEX", raising=False)
    monkeypatch.chdir(small_build.root)
    assert zoo.list_models() == [NAME]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingIndex, match=r"artifacts/demo/zoo/index\.json: there is no zoo here; build one"):
        zoo.list_models()
    monkeypatch.setenv("ZOO_INDEX", str(small_build.zoo))
    assert zoo.list_models() == [NAME]


def test_a_model_loads_with_its_weights_and_preprocessing(small_build: SmallBuild) -> None:
    model = zoo.load(NAME, index=small_build.zoo)
    assert not model.training
    assert type(model).__name__ == "MobileNetV3"
    expected = lite_model(ORIGIN, surgery.Plan.from_json(json.loads(plan(small_build))))
    load_weights(expected, small_build.folder("train") / "model.safetensors")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8))
    batch = model.preprocess(image)[None]
    assert batch.shape == (1, 3, SIZE, SIZE)
    with torch.inference_mode():
        scores = model(batch)
        assert torch.equal(scores, expected.eval()(batch))
    onnx_file = zoo.get(NAME, index=small_build.zoo).file("onnx")
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"input": batch.numpy()})[0], scores.numpy(), atol=1e-4)


def test_loading_leaves_the_callers_random_numbers_alone(small_build: SmallBuild) -> None:
    before = torch.random.get_rng_state()
    zoo.load(NAME, index=small_build.zoo)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_url_is_no_zoo() -> None:
    with pytest.raises(MissingIndex, match=r"https://x\.org/zoo: only local folders are supported"):
        zoo.list_models(index="https://x.org/zoo")


@pytest.mark.parametrize(
    ("image", "described"),
    [
        (np.zeros((8, 8, 3)), r"ndarray \(8, 8, 3\) of float64"),
        (np.zeros((3, 8, 8), np.uint8), r"ndarray \(3, 8, 8\) of uint8"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), r"Tensor \(3, 8, 8\) of torch.uint8"),
        (Path("image.png"), "Path"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(small_build: SmallBuild, image: object, described: str) -> None:
    transform = zoo.get(NAME, index=small_build.zoo).transform()
    with pytest.raises(TypeError, match=rf"takes a PIL image or an array .* of uint8, not .*{described}"):
        transform(image)


def plan(build: SmallBuild) -> bytes:
    return (build.folder("surgery") / "plan.json").read_bytes()


def test_the_latest_version_is_meant_unless_another_is_asked_for(own_build: SmallBuild) -> None:
    write_metrics(own_build, "train", 0.7)
    own_build.release()
    own_build.index()
    assert zoo.get(NAME, index=own_build.zoo).version == 2
    assert zoo.get(NAME, 1, index=own_build.zoo).version == 1


def test_every_kind_of_file_is_given(small_build: SmallBuild) -> None:
    found = zoo.get(NAME, index=small_build.zoo)
    names = {kind: found.file(kind).name for kind in ("onnx", "weights", "plan", "card")}
    assert names == {"onnx": "model.onnx", "weights": "model.safetensors", "plan": "plan.json", "card": "card.md"}
    with pytest.raises(UnknownName, match=r"no file 'onxx'; did you mean 'onnx'\?"):
        found.file("onxx")


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("mobilenet_v3_smal_lite", None, rf"no release 'mobilenet_v3_smal_lite'; did you mean '{NAME}'\?"),
        ("zzz", None, f"no release 'zzz'; known: {NAME}"),
        ("../../etc/passwd", None, "no release"),
        (NAME, 7, f"{NAME}: no version 7; known: 1"),
        (NAME, True, f"{NAME}: True is no version; give a whole number"),
        (NAME, "1", f"{NAME}: '1' is no version; give a whole number"),
        ([NAME], None, "not a release's name; give text"),
    ],
)
def test_unknown_names_and_versions_say_what_there_is(
    small_build: SmallBuild, name: str, version: int | None, message: str
) -> None:
    with pytest.raises(UnknownName, match=message):
        zoo.get(name, version, index=small_build.zoo)


@pytest.mark.parametrize("kind", ["onnx", "weights", "plan", "card"])
@pytest.mark.parametrize("damage", ["changed", "truncated", "missing", "link"])
def test_a_damaged_file_is_never_given(own_build: SmallBuild, kind: str, damage: str) -> None:
    found = zoo.get(NAME, index=own_build.zoo)
    file = found.file(kind)
    content = file.read_bytes()
    file.unlink()
    if damage == "changed":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "truncated":
        file.write_bytes(content[:-1])
    elif damage == "link":
        elsewhere = own_build.root / "elsewhere"
        elsewhere.write_bytes(content)
        file.symlink_to(elsewhere)
    with pytest.raises(IntegrityError, match="build or fetch the release again") as caught:
        found.file(kind)
    assert "\n" not in str(caught.value)
    if kind in ("weights", "plan"):
        with pytest.raises(IntegrityError):
            found.load()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1}', None])
def test_a_damaged_release_json_is_one_clear_line(own_build: SmallBuild, content: bytes | None) -> None:
    file = own_build.zoo / "models" / NAME / "v1" / "release.json"
    text = file.read_bytes()
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"release\.json: .*again") as caught:
        zoo.get(NAME, index=own_build.zoo)
    assert "\n" not in str(caught.value)
    file.unlink(missing_ok=True)
    file.write_bytes(text.replace(b'"top1": 0.875', b'"top1": 0.999'))
    with pytest.raises(IntegrityError, match="not the one that the index lists"):
        zoo.get(NAME, index=own_build.zoo)


def test_files_outside_of_the_release_are_refused(own_build: SmallBuild) -> None:
    text = (own_build.zoo / "models" / NAME / "v1" / "release.json").read_text()
    for path in ("../secret", "/etc/passwd", "a/b", "..", ".hidden"):
        with pytest.raises(IntegrityError, match=r"files\.card\.path"):
            release.parse(text.replace("card.md", path).encode(), "release.json")
    folder = own_build.zoo / "models" / NAME / "v1"
    folder.rename(own_build.root / "elsewhere")
    folder.symlink_to(own_build.root / "elsewhere")
    with pytest.raises(IntegrityError, match="leads out of the zoo"):
        zoo.get(NAME, index=own_build.zoo)


def test_newer_formats_ask_for_a_newer_library(own_build: SmallBuild) -> None:
    file = own_build.zoo / "models" / NAME / "v1" / "release.json"
    with pytest.raises(UnsupportedFormat, match="format 2, this lite-zoo reads format 1; install a newer lite-zoo"):
        release.parse(file.read_bytes().replace(b'"format": 1', b'"format": 2'), "release.json")
    (own_build.zoo / "index.json").write_text('{"format": 2}')
    with pytest.raises(UnsupportedFormat):
        zoo.list_models(index=own_build.zoo)


def test_weights_of_another_model_are_refused(own_build: SmallBuild, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_weights(torch.nn.Linear(3, 2), other)
    rewrite(own_build, "weights", other.read_bytes())
    with pytest.raises(WeightsMismatch, match="not this model's weights") as caught:
        zoo.load(NAME, index=own_build.zoo)
    assert "\n" not in str(caught.value)


def test_weights_of_the_source_do_not_belong_to_the_plan(own_build: SmallBuild) -> None:
    rewrite(own_build, "weights", (own_build.folder("baseline") / "source.safetensors").read_bytes())
    with pytest.raises(WeightsMismatch, match="unknown tensors"):
        zoo.load(NAME, index=own_build.zoo)


def test_weights_that_are_no_safetensors_are_refused(own_build: SmallBuild) -> None:
    rewrite(own_build, "weights", b"\x80\x04pickle")
    with pytest.raises(WeightsMismatch, match=r"model\.safetensors"):
        zoo.load(NAME, index=own_build.zoo)


def test_a_plan_for_another_model_is_refused(own_build: SmallBuild) -> None:
    content = json.loads((own_build.zoo / "models" / NAME / "v1" / "plan.json").read_bytes())
    content["origin"]["model"] = "mobilenet_v3_large"
    rewrite(own_build, "plan", json.dumps(content).encode())
    with pytest.raises(WeightsMismatch, match=r"torchvision/mobilenet_v3_large: .*install that version"):
        zoo.load(NAME, index=own_build.zoo)


@pytest.mark.parametrize("content", [b"{}", b"[1]", b"not json", b'{"origin": {}, "surgery": {}}'])
def test_a_plan_that_is_none_is_refused(own_build: SmallBuild, content: bytes) -> None:
    rewrite(own_build, "plan", content)
    with pytest.raises(WeightsMismatch, match=r"plan\.json: not a plan") as caught:
        zoo.load(NAME, index=own_build.zoo)
    assert "\n" not in str(caught.value)


def test_a_plan_that_leads_to_another_structure_is_refused(own_build: SmallBuild) -> None:
    plan_file = own_build.zoo / "models" / NAME / "v1" / "plan.json"
    rewrite(own_build, "plan", plan_file.read_bytes(), fingerprint="sha256:" + "0" * 64)
    with pytest.raises(WeightsMismatch, match="is not the model that was released"):
        zoo.load(NAME, index=own_build.zoo)


def test_a_missing_library_is_named(small_build: SmallBuild) -> None:
    code = (
        "import sys, zoo, zoo.errors\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'torchvision': raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'torchvision' else find(name, *a)\n"
        f"try: zoo.load({NAME!r})\n"
        "except zoo.errors.MissingLibrary as error: print(error)\n"
    )
    environment = {**os.environ, "ZOO_INDEX": str(small_build.zoo)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.startswith("torchvision is not installed; pip install")
