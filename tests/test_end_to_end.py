"""The real steps, nothing mocked, through doit: two models on tiny data, from recipe to a loaded release."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.origin import Origin
from zoo.sources import mmyolo
from zoo.tasks import classification, detection

REPOSITORY = Path(__file__).parents[1]
LITE, PLAIN = "mobilenet_v3_small_lite", "resnet50"

pytestmark = pytest.mark.slow


def change(file: Path, **values: str) -> None:
    """Set ``key: value`` wherever a key stands in a YAML file."""
    text = file.read_text()
    for key, value in values.items():
        text, count = re.subn(rf"(?m)^(\s*){key}: \S+", rf"\g<1>{key}: {value}", text)
        assert count, (file, key)
    file.write_text(text)


def doit(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "doit", *arguments]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=600)


def ran(done: subprocess.CompletedProcess[str]) -> set[str]:
    """The steps that ran, as "step:model"."""
    found = re.findall(r"(?m)^(\S+) +(\w+) +\d[\d.]* (?:s|min)\b", done.stdout)
    return {f"{step}:{name}" for name, step in found}


def checkout(root: Path, data: str, schedules: str, side: str) -> Path:
    """A copy of the recipes and configs whose data is tiny, whose trainings last an epoch and win nothing back."""
    for name in ("configs", "recipes"):
        shutil.copytree(REPOSITORY / name, root / name)
    for recipe in (root / "recipes").glob("*/*.yaml"):
        recipe.write_text(re.sub(r"(?m)^accept: .*\n", "", recipe.read_text()))
    for name in ("dodo.py", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, root)
    change(root / f"configs/datasets/{data}.yaml", train="80", val="40", size=side)
    change(root / "configs/profiles/demo.yaml", input_size=side)
    for schedule in (f"{schedules}_scratch", f"{schedules}_finetune"):
        change(root / f"configs/schedules/{schedule}.yaml", epochs="1", batch_size="8", warmup_epochs="0.0")
    return root


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = checkout(tmp_path_factory.mktemp("checkout"), "digit_scenes", "demo", "32")
    done = doit(root, "-n", "2", f"build:{LITE}", f"build:{PLAIN}")
    assert done.returncode == 0, done.stdout + done.stderr
    steps = ("baseline", "surgery", "check", "train", "export", "release", "index")
    assert ran(done) == {"data:digit_scenes", *(f"{step}:{name}" for step in steps for name in (LITE, PLAIN))}
    return root


def test_releases_say_what_they_are(built: Path) -> None:
    shared = built / "artifacts/demo"
    assert zoo.list_models(index=shared / "zoo") == [LITE, PLAIN]
    lite = json.loads((shared / f"zoo/models/{LITE}/v1/release.json").read_text())
    plain = json.loads((shared / f"zoo/models/{PLAIN}/v1/release.json").read_text())
    assert lite["lite"] is True
    assert lite["surgery"]["edits"]["squeeze_excite"] == 9
    assert plain["lite"] is False
    assert plain["surgery"]["edits"] == {}
    accuracy = plain["accuracy"]
    assert accuracy["source"]["metrics"] == accuracy["after_surgery"]["metrics"] == accuracy["lite"]["metrics"]
    assert accuracy["lite"]["epochs"] == 0
    assert "not lite" in (shared / f"zoo/models/{PLAIN}/v1/card.md").read_text().lower()


@pytest.mark.parametrize("name", [LITE, PLAIN])
def test_a_loaded_release_reproduces_its_published_accuracy(built: Path, name: str) -> None:
    index = built / "artifacts/demo/zoo"
    release = zoo.get(name, index=index)
    origin = Origin.model_validate(release.manifest.origin.model_dump())
    data = built / "artifacts/demo/data/digit_scenes"
    measured = classification.evaluate(release.load(), data, origin.preprocessing)
    published = release.manifest.accuracy.lite
    assert measured["top1"] == published.metrics["top1"]
    assert measured["dataset_digest"] == published.dataset_digest


def test_onnx_gives_what_the_loaded_model_gives(built: Path) -> None:
    import onnxruntime

    release = zoo.get(LITE, index=built / "artifacts/demo/zoo")
    model = release.load()
    image = Image.open(next((built / "artifacts/demo/data/digit_scenes/val/3").glob("*.png")))
    x = model.preprocess(image)[None]
    session = onnxruntime.InferenceSession(release.file("onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        expected = model(x)
    assert (torch.from_numpy(found) - expected).abs().max() <= 1e-4 * expected.abs().max().clamp_min(1)


def test_only_what_an_edit_touches_runs_again(built: Path) -> None:
    shared, arguments = built / "artifacts/demo", (f"build:{LITE}", f"build:{PLAIN}")
    assert ran(doit(built, *arguments)) == set()

    recipe = built / f"recipes/torchvision/{LITE}.yaml"
    recipe.write_text(recipe.read_text() + "# a comment\n")
    assert ran(doit(built, *arguments)) == set()

    after_training = {f"{step}:{LITE}" for step in ("train", "export", "release", "index")}
    recipe.write_text(recipe.read_text() + "train:\n  lr: 0.001\n")
    done = doit(built, *arguments)
    assert ran(done) == after_training, done.stdout
    assert "schedule.optimizer.lr changed from 0.03 to 0.001" in done.stdout
    assert [p.name for p in sorted((shared / f"zoo/models/{LITE}").iterdir())] == ["v1", "v2"]

    published = shared / f"zoo/models/{LITE}/v2/model.onnx"
    published.chmod(0o644)
    published.write_bytes(published.read_bytes()[:100])
    done = doit(built, *arguments)
    assert ran(done) == {f"release:{LITE}", f"index:{LITE}"}, done.stdout
    assert zoo.get(LITE, index=shared / "zoo").version == 3
    assert ran(doit(built, *arguments)) == set()


def test_what_misses_its_bound_is_refused_and_the_zoo_stays(built: Path) -> None:
    shared, recipe = built / "artifacts/demo", built / f"recipes/torchvision/{LITE}.yaml"
    before, text = (shared / "zoo/index.json").read_bytes(), recipe.read_text()
    recipe.write_text(text + "accept: {at_least: {demo: 1.0}}\n")
    done = doit(built, f"build:{LITE}")
    assert (done.returncode, ran(done)) == (1, set())
    refused = (
        rf"{LITE} +release +failed: recipes/torchvision/{LITE}.yaml: accept: .* 100 %, \S+ points short; not released"
    )
    assert re.search(refused, done.stdout), done.stdout
    assert "not run because of it: index" in done.stdout
    assert (shared / "zoo/index.json").read_bytes() == before
    recipe.write_text(text)
    assert ran(doit(built, f"build:{LITE}")) <= {f"release:{LITE}", f"index:{LITE}"}
    assert (shared / "zoo/index.json").read_bytes() == before


# The other libraries: segmentation is in test_segmentation.py


def test_a_timm_release_reproduces_its_published_accuracy(tmp_path: Path) -> None:
    root = checkout(tmp_path, "digit_scenes", "demo", "32")
    done = doit(root, "build:mobilenetv3_small_100_lite")
    assert done.returncode == 0, done.stdout + done.stderr
    release = zoo.get("mobilenetv3_small_100_lite", index=root / "artifacts/demo/zoo")
    data = root / "artifacts/demo/data/digit_scenes"
    measured = classification.evaluate(release.load(), data, release.manifest.origin.preprocessing)
    published = release.manifest.accuracy.lite
    assert measured["dataset_digest"] == published.dataset_digest
    assert {name: measured[name] for name in published.metrics} == published.metrics


def write_corner_objects(folder: Path) -> None:
    """COCO's layout: squares that fill the corner where an untrained YOLOv5 looks for them."""
    categories = [{"id": 1, "name": "dark"}, {"id": 2, "name": "bright"}]
    for split, count in (("train", 16), ("val", 8)):
        images, objects = [], []
        (folder / split).mkdir(parents=True)
        for number in range(count):
            pixels = np.full((64, 64, 3), 128, np.uint8)
            pixels[:32, :34] = 255 * (number % 2)
            Image.fromarray(pixels).save(folder / split / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
            objects.append({"id": number, "image_id": number, "category_id": 1 + number % 2, "bbox": [0, 0, 34, 32]})
        index = folder / "annotations" / f"instances_{split}.json"
        index.parent.mkdir(exist_ok=True)
        index.write_text(json.dumps({"images": images, "annotations": objects, "categories": categories}))


def test_an_mmyolo_release_reproduces_its_published_precision_and_names_its_licence(tmp_path: Path) -> None:
    if not all(mmyolo.find_spec(name) for name in mmyolo.LIBRARIES):
        pytest.skip("mmyolo is an extra")
    root = checkout(tmp_path, "digit_scenes_detection", "demo_detection", "64")
    write_corner_objects(root / "corners")
    (root / "configs/datasets/digit_scenes_detection.yaml").write_text(
        f"{{description: test, task: detection, layout: coco, root: {root / 'corners'}, num_classes: 2, "
        "mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25], licence: none}\n"
    )
    recipe = root / "recipes/mmyolo/yolov5_n_lite.yaml"
    recipe.write_text(recipe.read_text() + "export:\n  nms: true\n")
    done = doit(root, "build:yolov5_n_lite")
    assert done.returncode == 0, done.stdout + done.stderr
    release = zoo.get("yolov5_n_lite", index=root / "artifacts/demo/zoo")
    assert release.manifest.licences.code == "GPL-3.0"
    assert "GPL-3.0" in release.file("card").read_text()
    assert json.loads(release.file("detection_head").read_text())["outputs"] == ["boxes", "scores", "labels"]
    assert release.manifest.onnx.parity.images == 8
    model = release.load()
    data = root / "artifacts/demo/data/digit_scenes_detection"
    measured = detection.evaluate(model.network, data, release.manifest.origin.preprocessing)
    published = release.manifest.accuracy.lite
    assert published.metrics["map_50"] > 0
    assert measured["dataset_digest"] == published.dataset_digest
    assert {name: measured[name] for name in published.metrics} == published.metrics
