"""The mmyolo source: its catalogue, detectors that train and predict, checkpoints that load or say what is wrong."""

import hashlib
import importlib
import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from small_checkout import RECIPE_TEXT, TEXTS, write
from torch import Tensor, nn

import surgery
from zoo import rebuild, sources, weight_files
from zoo.config import Preprocessing
from zoo.errors import IntegrityError, InvalidInput, MissingLibrary, MissingWeights, UnknownName, WeightsMismatch
from zoo.openmmlab import checkpoint
from zoo.origin import Origin
from zoo.preprocess import GREY, letterboxed, placement
from zoo.reading import library
from zoo.sources import mmyolo

if not all(mmyolo.find_spec(name) for name in mmyolo.LIBRARIES):
    pytest.skip("mmyolo is an extra", allow_module_level=True)

ROOT = Path(__file__).parents[1]
RECIPES = {file.stem: yaml.safe_load(file.read_text()) for file in sorted((ROOT / "recipes" / "mmyolo").glob("*.yaml"))}
YOLOV5, YOLOV8 = (RECIPES[name]["source"]["config"] for name in ("yolov5_n_lite", "yolov8_n_lite"))
YOLOX, RTMDET, PPYOLOE = (
    RECIPES[name]["source"]["config"] for name in ("yolox_tiny_lite", "rtmdet_tiny_lite", "ppyoloe_plus_s_lite")
)
SIZE = 96  # the assigner of two heads wants 9 places in the smallest level


# The catalogue


def test_the_catalogue_is_read_without_importing_anything_heavy() -> None:
    code = (
        "import sys; from zoo.sources import mmyolo; print(len(mmyolo.catalogue()), mmyolo.version()); "
        "print(*{'torch', 'mmyolo', 'mmdet', 'mmcv', 'mmengine', 'yaml', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, version = done.stdout.splitlines()[0].split()
    assert int(count) == len(mmyolo.catalogue()) >= 100
    assert version == mmyolo.version()
    assert done.stdout.splitlines()[1] == ""


def test_the_catalogue_holds_what_the_wheel_s_lists_say() -> None:
    counted = 0
    for file in mmyolo._configs().rglob("metafile.yml"):
        for model in yaml.safe_load(file.read_text())["Models"]:
            config = model["Config"].removeprefix("configs/")
            if config in mmyolo.catalogue() and "Weights" in model:
                (name,) = mmyolo.catalogue()[config].weights
                assert mmyolo._url(config, name) == model["Weights"]
                assert name == model["Results"][0]["Dataset"].lower()
                counted += 1
    assert counted == sum(len(entry.weights) for entry in mmyolo.catalogue().values()) >= 60


def test_what_is_no_detector_has_a_task_of_its_own_and_what_is_no_model_is_left_out() -> None:
    catalogue = mmyolo.catalogue()
    tasks = {
        "rtmdet/rtmdet-ins_s_syncbn_fast_8xb32-300e_coco.py": "instance_segmentation",
        "yolov5/ins_seg/yolov5_ins_n-v61_syncbn_fast_8xb16-300e_coco_instance.py": "instance_segmentation",
        "rtmdet/rotated/rtmdet-r_tiny_fast_1xb8-36e_dota.py": "rotated_detection",
        "yolox/pose/yolox-pose_s_8xb32-300e-rtmdet-hyp_coco.py": "pose_estimation",
        "yolov5/mask_refine/yolov5_n_mask-refine-v61_syncbn_fast_8xb16-300e_coco.py": "detection",
    }
    assert {name: catalogue[name].task for name in tasks} == tasks
    assert {entry.task for entry in catalogue.values()} == set(tasks.values())
    left_out = [name for name in catalogue if name.startswith(("_base_", "deploy", "razor")) or "_tta" in name]
    assert left_out == []


# Building


def batch(count: int = 2, size: int = SIZE) -> tuple[Tensor, dict[str, Any]]:
    """Images and their boxes as mmyolo's losses take them: rows of image, class, corners."""
    rows = [[image, image + 3, 5.0, 6.0 + image, 40.0, 50.0] for image in range(count)]
    return torch.rand(count, 3, size, size), {
        "bboxes_labels": torch.tensor(rows),
        "img_metas": [{"batch_input_shape": (size, size)}] * count,
    }


def loss(detector: Any, *, boxes: bool = True) -> Tensor:
    from mmengine.logging import MessageHub

    MessageHub.get_current_instance().update_info("epoch", 0)  # mmengine's Runner does, and two of the heads ask
    images, samples = batch()
    if not boxes:
        samples["bboxes_labels"] = torch.zeros(0, 6)
    return torch.stack([value.sum() for name, value in detector.loss(images, samples).items() if "loss" in name]).sum()


def predicted(detector: Any) -> Any:
    from mmdet.structures import DetDataSample

    shapes = dict.fromkeys(("img_shape", "ori_shape", "batch_input_shape"), (SIZE, SIZE))
    metas = [DetDataSample(metainfo={**shapes, "scale_factor": (1.0, 1.0)}) for _ in range(2)]
    with torch.no_grad():
        return detector.eval().predict(batch()[0], metas)


def trains_and_predicts(detector: nn.Module) -> None:
    loss(detector.train()).backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    with torch.no_grad():
        assert loss(detector, boxes=False).isfinite()
    for sample in predicted(detector):
        found = sample.pred_instances
        assert found.bboxes.shape == (len(found.scores), 4)
        assert set(found.labels.tolist()) <= set(range(10))


def output_channels(detector: nn.Module) -> list[list[int]]:
    with torch.no_grad():
        return [[level.shape[1] for level in part] for part in detector.eval()(batch()[0])]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("a test connects to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_there_is_a_recipe_for_each_family() -> None:
    assert len(RECIPES) == 10
    for name, recipe in RECIPES.items():
        entry = mmyolo.catalogue()[recipe["source"]["config"]]
        assert (entry.task, recipe["task"]) == ("detection", "detection")
        assert entry.weights == ((recipe["source"]["weights"],) if "weights" in recipe["source"] else ()), name


LARGER = {"yolox_tiny_lite", "yolov5_s_lite", "yolov8_s_lite"}  # of a family that a smaller one stands for


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LARGER else []) for name in RECIPES]
)
def test_a_recipe_s_detector_trains_and_predicts_before_and_after_surgery(name: str) -> None:
    torch.manual_seed(0)
    detector = mmyolo.build(RECIPES[name]["source"]["config"], num_classes=10)
    assert detector.training
    assert {each.num_classes for each in detector.modules() if hasattr(each, "num_classes")} == {10}
    assert not [each for each in detector.modules() if isinstance(each, nn.SyncBatchNorm)]
    trains_and_predicts(detector)
    channels = output_channels(detector)
    rules = RECIPES[name].get("surgery", {}).get("rules", "default")
    arguments = [] if rules == "default" else [rules]
    lite, report = surgery.lite(detector, *arguments, example_inputs=batch(1)[0])
    assert len(report.edits) >= 1
    assert report.refusals == ()
    assert type(lite) is type(detector)
    assert output_channels(lite) == channels
    assert channels[0] == [10 * len(channels[1]) if len(channels) == 3 and channels[2] == [3] * 3 else 10] * 3
    trains_and_predicts(lite)


def one_of_each_kind() -> list[str]:
    """The first detector of each folder and dataset: families, larger inputs, other data."""
    detectors = [name for name, entry in mmyolo.catalogue().items() if entry.task == "detection"]
    kinds = {
        (name.rpartition("/")[0], "p6" in name, Path(name).stem.rpartition("_")[2]): name
        for name in reversed(detectors)
    }
    return sorted(kinds.values())


@pytest.mark.slow
def test_one_detector_of_each_kind_builds_and_none_downloads() -> None:
    built = one_of_each_kind()
    assert len(built) >= 20
    for name in built:
        with torch.device("meta"):
            detector: Any = mmyolo.build(name, num_classes=7)
        assert detector.bbox_head.num_classes == 7, name
        size = mmyolo.preprocessing(name, "own.pth").size
        assert size in (416, 512, 608, 640, 1280), name
        assert (size == 1280) == ("p6" in name), name
        own = mmyolo._config(name).model.bbox_head.head_module.num_classes
        assert len(mmyolo._dataset_labels(name)) == own, name


def weights_of(seed: int) -> list[Tensor]:
    torch.manual_seed(seed)
    return [value.clone() for value in mmyolo.build(YOLOV5, num_classes=3).state_dict().values()]


def test_weights_come_from_the_seed() -> None:
    one, same, other = weights_of(1), weights_of(1), weights_of(2)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_building_is_silent_and_leaves_no_scope(capfd: pytest.CaptureFixture[str]) -> None:
    from mmengine.logging import MMLogger
    from mmengine.registry import DefaultScope

    def scope() -> str | None:
        current = DefaultScope.get_current_instance()
        return current.scope_name if current else None

    before = scope()
    mmyolo.build(YOLOV5, num_classes=3)
    assert scope() == before
    assert not MMLogger.get_current_instance().disabled
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def another_scope() -> Iterator[Any]:
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope("mmengine"):
        yield DefaultScope


def test_building_where_another_library_is_at_work(another_scope: Any) -> None:
    detector = mmyolo.build(YOLOV8, num_classes=3)
    assert another_scope.get_current_instance().scope_name == "mmengine"
    assert output_channels(detector)[0] == [3, 3, 3]


def test_building_in_threads() -> None:
    with ThreadPoolExecutor(4) as pool:
        built = list(pool.map(lambda n: mmyolo.build(YOLOV5, num_classes=n), range(1, 5)))
    assert [output_channels(detector)[0] for detector in built] == [[3 * n] * 3 for n in range(1, 5)]


def test_losses_are_weighed_as_the_configs_do_it() -> None:
    found = {}
    for classes, size in ((80, None), (80, 640), (8, 320)):
        head: Any = mmyolo.build(YOLOV5, num_classes=classes, image_size=size).bbox_head
        found[classes, size] = (head.loss_cls.loss_weight, head.loss_obj.loss_weight)
    assert found == {(80, None): (0.5, 1.0), (80, 640): (0.5, 1.0), (8, 320): (pytest.approx(0.05), 0.25)}
    other: Any = mmyolo.build(YOLOV8, num_classes=8, image_size=320).bbox_head
    assert other.loss_cls.loss_weight == 0.5


def test_anchors() -> None:
    anchors = [[(4.0, 5.0), (8.0, 9.0), (12.0, 10.0)]] * 3
    detector: Any = mmyolo.build(YOLOV5, num_classes=3, anchors=anchors)
    assert detector.bbox_head.prior_generator.base_sizes == anchors
    assert detector.bbox_head.priors_base_sizes[0].tolist() == [
        [1 / 2, 5 / 8],
        [1, 9 / 8],
        [3 / 2, 5 / 4],
    ]  # of strides
    with pytest.raises(UnknownName, match=r"has \[3, 3, 3\] anchors by level, not \[3\]; give as many"):
        mmyolo.build(YOLOV5, num_classes=3, anchors=anchors[:1])
    with pytest.raises(UnknownName, match=r"mmyolo/yolov8/.*\.py has no anchors; remove 'anchors' from the recipe"):
        mmyolo.build(YOLOV8, num_classes=3, anchors=anchors)


# What it says of itself


def test_a_config_that_does_not_exist() -> None:
    wrong = YOLOV8.replace("yolov8_n_", "yolov8_nn_")
    for call in (
        lambda: mmyolo.build(wrong, num_classes=3),
        lambda: mmyolo.published(wrong, "coco"),
        lambda: mmyolo.labels(wrong, "somewhere/else.pth"),
        lambda: mmyolo.preprocessing(wrong, "coco"),
        lambda: mmyolo.preprocessing(wrong, "somewhere/else.pth"),
    ):
        with pytest.raises(UnknownName) as caught:
            call()
        assert str(caught.value) == f"mmyolo {mmyolo.version()} has no config '{wrong}'; did you mean '{YOLOV8}'?"
    with pytest.raises(UnknownName, match=r"mmyolo/yolov8/.* has no weights 'voc'; known: coco"):
        mmyolo.published(YOLOV8, "voc")


def test_labels() -> None:
    names = mmyolo.labels(YOLOV8, "coco")
    assert len(names) == len(set(names)) == 80
    assert (names[0], names[-1]) == ("person", "toothbrush")
    nowhere = "somewhere/else.pth"
    with pytest.raises(MissingWeights, match=f"weights {nowhere} are not here; place a checkpoint at /.*/{nowhere} or"):
        mmyolo.labels(YOLOV8, nowhere)


# Mean, deviation and order are those that the config's data_preprocessor applies to pixels from 0 to 255.
EXPECTED = {
    YOLOV8: Preprocessing(geometry="letterbox", resize=640, size=640, mean=(0, 0, 0), std=(1, 1, 1)),
    PPYOLOE: Preprocessing(
        geometry="stretch", resize=640, size=640, interpolation="bicubic", mean=(0, 0, 0), std=(1, 1, 1)
    ),
    YOLOX: Preprocessing(
        geometry="corner", resize=416, size=416, mean=(0, 0, 0), std=(1 / 255, 1 / 255, 1 / 255), channels="BGR"
    ),
    RTMDET: Preprocessing(
        geometry="letterbox",
        resize=640,
        size=640,
        mean=(123.675 / 255, 116.28 / 255, 103.53 / 255),
        std=(58.395 / 255, 57.12 / 255, 57.375 / 255),
        channels="BGR",
    ),
}


@pytest.mark.parametrize("model", EXPECTED)
def test_preprocessing_is_what_the_detector_s_own_does(model: str) -> None:
    found = mmyolo.preprocessing(model, "coco")
    assert found == EXPECTED[model]
    detector: Any = mmyolo.build(model, num_classes=3).eval()
    rgb = torch.randint(0, 256, (3, 32, 32))
    own = detector.data_preprocessor({"inputs": [rgb.flip(0).byte()], "data_samples": None}, False)["inputs"]
    mean, std = (torch.tensor(values)[:, None, None] for values in (found.mean, found.std))
    ours = (rgb / 255 - mean) / std
    assert torch.allclose(own[0], ours if found.channels == "RGB" else ours.flip(0), atol=1e-4)


@pytest.mark.parametrize("model", EXPECTED)
@pytest.mark.parametrize("sides", [(60, 40), (33, 97)])
def test_an_image_lies_where_the_config_s_own_pipeline_puts_it(model: str, sides: tuple[int, int]) -> None:
    """Of a white image, resampling has no say."""
    how, (width, height) = mmyolo.preprocessing(model, "coco"), sides
    pixels = np.full((height, width, 3), 255, np.uint8)
    results: dict[str, Any] = {"img": pixels, "img_shape": (height, width), "ori_shape": (height, width), "img_id": 0}
    with mmyolo._mmyolo():
        importlib.import_module("mmyolo.datasets")  # registers its transforms
        from mmdet.registry import TRANSFORMS

        for step in mmyolo._config(model).test_dataloader.dataset.pipeline:
            if "Resize" in step.type or "Pad" in step.type:
                scope = {"_scope_": "mmyolo"} if "." not in step.type else {}
                results = TRANSFORMS.build({**step, **scope})(results)
    ours = np.asarray(letterboxed(Image.fromarray(pixels), how))
    theirs = results["img"]
    assert theirs.shape == ours.shape == (how.size, how.size, 3)
    assert {*np.unique(theirs)} == {*np.unique(ours)} <= {GREY, 255}
    seen = [corners(each) for each in (ours, theirs)]
    # mmyolo's letterbox rounds a side down and then pads half a pixel less; the others are the same to the pixel.
    assert np.abs(np.subtract(*seen)).max() <= (1 if how.geometry == "letterbox" else 0)
    placed = placement(width, height, how)
    (left, top), (across, down) = placed.offset, placed.scale
    assert seen[0] == pytest.approx([left, top, left + across * width, top + down * height])


def corners(square: np.ndarray) -> list[int]:
    """Of what is white in it: left, top, right, bottom."""
    rows, columns = (np.flatnonzero((square == 255).all(2).any(axis)) for axis in (1, 0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def test_licences() -> None:
    found = mmyolo.licences(YOLOV8, "coco")
    assert (found.code, found.weights) == ("GPL-3.0", "GPL-3.0 (mmyolo); trained on COCO")
    assert "this build" in mmyolo.licences(YOLOV8, None).weights
    assert "mine.pth" in mmyolo.licences(YOLOV8, "/home/mine.pth").weights


# Checkpoints


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return mmyolo.build(YOLOV5, num_classes=80).state_dict()


def as_the_runner_writes(state: dict[str, Tensor], **meta: Any) -> dict[str, Any]:
    """A checkpoint in the layout of mmengine.runner.Runner.save_checkpoint, history and all."""
    from mmengine.logging import HistoryBuffer

    history = HistoryBuffer()
    for step in range(3):
        history.update(1.5 / (step + 1), 2)
    return {
        "meta": {"epoch": 3, "iter": 9, "cfg": "model = dict()", "seed": 1, "mmengine_version": "0.7.1", **meta},
        "state_dict": state,
        "message_hub": {
            "log_scalars": {"train/loss": history},
            "runtime_info": {"epoch": 2, "best": history.current(), "last_ckpt": "epoch_3.pth"},
            "resumed_keys": {"train/loss": True},
        },
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.01, "params": [0]}]},
        "param_schedulers": [{"last_step": 3, "_last_value": [0.01]}],
        "ema_state_dict": {"steps": torch.tensor(9), "module.a": torch.zeros(1)},
    }


def place(content: Any, folder: Path) -> Path:
    torch.save(content, folder / "mine.pth")
    return folder / "mine.pth"


def test_a_checkpoint_of_ones_own(state: dict[str, Tensor], tmp_path: Path) -> None:
    file = place(as_the_runner_writes(state, dataset_meta={"classes": ["a"] * 80, "palette": [(1, 2, 3)]}), tmp_path)
    found = mmyolo.published(YOLOV5, str(file))
    mmyolo.build(YOLOV5, num_classes=80).load_state_dict(found, strict=True)
    assert all(torch.equal(found[name], value) for name, value in state.items())
    assert mmyolo.labels(YOLOV5, str(file)) == ("a",) * 80


def test_a_checkpoint_of_other_classes(tmp_path: Path) -> None:
    own = mmyolo.build(YOLOV5, num_classes=2).state_dict()
    file = place(as_the_runner_writes(own, dataset_meta={"CLASSES": ("cat", "dog")}), tmp_path)
    assert mmyolo.labels(YOLOV5, str(file)) == ("cat", "dog")
    mmyolo.build(YOLOV5, num_classes=2).load_state_dict(mmyolo.published(YOLOV5, str(file)), strict=True)


def test_names_that_training_leaves_behind(state: dict[str, Tensor], tmp_path: Path) -> None:
    """Parallel training's prefix, the average beside the weights, a constant that was stored once."""
    odd = {f"module.{name}": value for name, value in state.items()}
    odd |= {"ema_" + name.replace(".", "_"): value for name, value in list(state.items())[:5]}
    odd["bbox_head.priors_base_sizes"] = torch.zeros(3, 3, 2)
    found = mmyolo.published(YOLOV5, str(place(as_the_runner_writes(odd), tmp_path)))
    assert found.keys() == state.keys()
    assert mmyolo.published(YOLOV5, str(place(state, tmp_path))).keys() == state.keys(), "weights and nothing else"


def test_history_written_with_numpy_1(tmp_path: Path) -> None:
    new = place(as_the_runner_writes({"a": torch.ones(1)}), tmp_path)
    old = tmp_path / "old.pth"
    with zipfile.ZipFile(new) as source, zipfile.ZipFile(old, "w") as target:
        for entry in source.namelist():
            content = source.read(entry)
            if entry.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            target.writestr(entry, content)
    assert checkpoint.read(old, "old").state == {"a": torch.ones(1)}


def test_another_model_s_checkpoint(state: dict[str, Tensor], tmp_path: Path) -> None:
    file = str(place(as_the_runner_writes(state), tmp_path))
    with pytest.raises(WeightsMismatch) as caught:
        mmyolo.published(YOLOV8, file)
    message = str(caught.value)
    assert message.startswith(f"mmyolo/{YOLOV8}: weights {file} belong to another model: ")
    assert " is 16x3x6x6, not 16x3x3x3" in message
    assert message.endswith("name the checkpoint of this one")
    assert "\n" not in message
    fewer = dict(list(state.items())[1:]) | {"other.weight": torch.zeros(2)}
    with pytest.raises(WeightsMismatch, match=r"2 tensors differ \(missing backbone\..*, unknown other\.weight\)"):
        mmyolo.published(YOLOV5, str(place(fewer, tmp_path)))


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("exit 1",)


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        ({"state_dict": {"a": Malicious()}}, "holds no plain weights"),
        ({"state_dict": {}, "meta": Malicious()}, "holds no plain weights"),
        ({"state_dict": {"a": 1}}, "holds no state_dict"),
        ([torch.zeros(1)], "holds no state_dict"),
        ({1: torch.zeros(1)}, "holds no state_dict"),
    ],
)
def test_a_file_that_holds_something_else(content: Any, fact: str, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=fact) as caught:
        mmyolo.published(YOLOV5, str(place(content, tmp_path)))
    assert "\n" not in str(caught.value)


def test_a_damaged_file_of_the_older_format(tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    torch.save({"state_dict": {"a": torch.ones(4)}}, file, _use_new_zipfile_serialization=False)
    whole = file.read_bytes()
    for end in range(0, len(whole), 7):
        file.write_bytes(whole[:end])
        with pytest.raises(IntegrityError, match="holds no plain weights"):
            checkpoint.read(file, "mine")


def test_classes_that_are_no_list(tmp_path: Path) -> None:
    meta = {"dataset_meta": {"classes": 5}}
    assert checkpoint.read(place({"state_dict": {"a": torch.ones(1)}, "meta": meta}, tmp_path), "mine").labels is None


@pytest.mark.parametrize("weights", ["~nobody-of-that-name/x.pth", f"{'x' * 300}/y.pth", "none/x.pth"])
def test_a_checkpoint_that_is_not_there(weights: str) -> None:
    with pytest.raises(MissingWeights, match=r"are not here; place a checkpoint at .* or name another$"):
        mmyolo.labels(YOLOV5, weights)


@pytest.mark.parametrize("url", ["https://host.invalid/", "http://[::x/x.pth", "://x.pth"])
def test_a_url_that_names_no_file(url: str) -> None:
    with pytest.raises(MissingWeights, match=r"this is no URL of a file; correct it$"):
        mmyolo.labels(YOLOV5, url)


def test_files_of_one_name_from_two_places_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    urls = []
    for run in ("first", "second"):
        file = tmp_path / run / "epoch_300.pth"
        file.parent.mkdir()
        file.write_text(run)
        urls.append(file.as_uri())
    held = [weight_files.fetched(url, "mine", by_library=False) for url in (*urls, *urls)]
    assert [file.read_text() for file in held] == ["first", "second"] * 2
    digested = "https://host.invalid/epoch_300-0123abcd.pth"
    assert weight_files.of_url(digested, by_library=False).name == "epoch_300-0123abcd.pth"
    assert weight_files.of_url(urls[0]).name == "epoch_300.pth"  # of a library, names are its own
    for file in held:
        assert not weight_files.DIGEST.search(file.stem)


@pytest.fixture
def published_file(state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A miniature of the published file, placed by hand in the cache."""
    content = place(as_the_runner_writes(state, dataset_meta={"CLASSES": ("x",)}), tmp_path).read_bytes()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / f"yolov5_n_2022-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    monkeypatch.setattr(mmyolo, "_published", lambda: {YOLOV5: {"coco": f"http://127.0.0.1:9/{file.name}"}})
    return file


def test_published_weights_placed_by_hand(published_file: Path, state: dict[str, Tensor]) -> None:
    found = mmyolo.published(YOLOV5, "coco")
    assert found.keys() == state.keys()
    assert len(mmyolo.labels(YOLOV5, "coco")) == 80


def test_published_weights_that_are_damaged_or_missing(published_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published_file.write_bytes(published_file.read_bytes()[:-10])
    with pytest.raises(IntegrityError, match=f"{published_file} is damaged: its SHA-256 begins with"):
        mmyolo.published(YOLOV5, "coco")
    published_file.unlink()

    def offline(*args: Any, **options: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    for weights in ("coco", f"http://127.0.0.1:9/{published_file.name}"):
        with pytest.raises(MissingWeights) as caught:
            mmyolo.published(YOLOV5, weights)
        message = str(caught.value)
        assert message.startswith(f"mmyolo/{YOLOV5}: weights {weights} are not here and cannot be downloaded")
        assert f"download http://127.0.0.1:9/{published_file.name} on a connected machine" in message
        assert message.endswith(f"place it at {published_file}")


# Without the library, and recipes


@pytest.fixture(params=mmyolo.LIBRARIES)
def absent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    find = mmyolo.find_spec
    monkeypatch.setattr(mmyolo, "find_spec", lambda name: None if name == request.param else find(name))
    mmyolo.catalogue.cache_clear()
    mmyolo._published.cache_clear()
    yield request.param
    mmyolo.catalogue.cache_clear()


def origin() -> Origin:
    return Origin(
        library="mmyolo",
        library_version="0.6.0",
        model=YOLOV5,
        weights=None,
        task="detection",
        num_classes=2,
        labels=("a", "b"),
        preprocessing=EXPECTED[YOLOV8],
        licences=mmyolo.licences(YOLOV5, None),
    )


def recipe(**source: str) -> str:
    fields = "".join(f"  {name}: {value}\n" for name, value in source.items())
    return f"source:\n  library: mmyolo\n{fields}task: classification\ntarget: chip\n"


def complaints(root: Path, text: str) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        library.load(write(root, {**TEXTS, "recipes/mmyolo/own_lite.yaml": text}))
    return [str(problem) for problem in caught.value.problems]


def test_without_the_library_its_recipes_name_the_extra(absent: str, tmp_path: Path) -> None:
    line = f"{absent} is not installed; pip install 'lite-zoo[mmyolo]'"
    declared = library.load(write(tmp_path, {**TEXTS, "recipes/mmyolo/own_lite.yaml": recipe(config=YOLOV5)}))
    assert "own_lite" in declared.recipes  # other recipes can be built all the same
    with pytest.raises(MissingLibrary) as caught:
        rebuild.source_model(origin())
    assert str(caught.value) == line


def test_without_the_library_other_recipes_load(absent: str, tmp_path: Path) -> None:
    if absent == "torchvision":
        pytest.skip("the other recipes' own library")
    assert "torchvision" in RECIPE_TEXT
    assert set(library.load(write(tmp_path, TEXTS)).recipes) == {"mobilenet_v2_lite"}


def test_a_release_s_detector_is_built_from_its_origin() -> None:
    anchors = [[[4.0, 5.0], [8.0, 9.0], [12.0, 10.0]]] * 3
    detector: Any = rebuild.source_model(origin().model_copy(update={"options": {"anchors": anchors}}))
    assert detector.bbox_head.num_classes == 2
    assert detector.bbox_head.prior_generator.base_sizes[0][0] == (4.0, 5.0)


def test_recipes_that_name_the_wrong_thing(tmp_path: Path) -> None:
    place = "recipes/mmyolo/own_lite.yaml"
    wrong = YOLOV8.replace("yolov8_n_", "yolov8_nn_")
    cure = f"did you mean '{YOLOV8}'?"
    assert complaints(tmp_path, recipe(config=wrong)) == [
        f"{place}:3: source.config: unknown mmyolo config '{wrong}'; {cure}"
    ]
    masks = "rtmdet/rtmdet-ins_s_syncbn_fast_8xb32-300e_coco.py"
    assert complaints(tmp_path, recipe(config=masks)) == [
        f"{place}:4: task: mmyolo/{masks} is a model for instance_segmentation, not classification; "
        "change task or model"
    ]
    assert f"{place}:3: source.config: stands beside model; remove one of the two" in complaints(
        tmp_path, recipe(config=YOLOV8, model=YOLOV8)
    )
    assert f"{place}:3: source.model: a source of mmyolo has no such field; write 'config: ...'" in complaints(
        tmp_path, recipe(model=YOLOV8)
    )
    assert f"{place}:5: source.checkpoint: stands beside weights; remove one of the two" in complaints(
        tmp_path, recipe(config=YOLOV8, weights="coco", checkpoint="mine.pth")
    )
    assert f"{place}:4: source.anchors[0][0][1]: should be greater than 0, not 0" in complaints(
        tmp_path, recipe(config=YOLOV5, anchors="[[[1, 0]]]")
    )
    found = complaints(tmp_path, recipe(config=YOLOV8, weights="voc"))
    assert f"{place}:4: source.weights: mmyolo/{YOLOV8} has no weights 'voc'; known: coco" in found


def test_the_source_is_found_by_name() -> None:
    assert sources.find("mmyolo").version() == mmyolo.version()


def test_a_model_without_published_weights_is_known_by_its_config() -> None:
    name = RECIPES["yolox_nano_lite"]["source"]["config"]
    assert not mmyolo.catalogue()[name].weights
    own = mmyolo.preprocessing(name, None)
    assert (own.size, own.geometry, len(mmyolo.labels(name, None))) == (416, "corner", 80)
