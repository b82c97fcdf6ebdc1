"""Sources: the catalogue agrees with torchvision, every model builds, published weights load or say what is wrong."""

import hashlib
import os
import pickle
from pathlib import Path

import pytest
import torch
from torchvision import models

from zoo import sources
from zoo.errors import IntegrityError, MissingLibrary, MissingWeights, StepError, UnknownName
from zoo.sources import torchvision

FOLDERS = {
    "classification": models,
    "detection_of_listed_images": models.detection,
    "optical_flow": models.optical_flow,
    "quantized_classification": models.quantization,
    "segmentation": models.segmentation,
    "video_classification": models.video,
}
CLASSIFIERS = [name for name, entry in torchvision.catalogue().items() if entry.task == "classification"]
MODEL, WEIGHTS = "mobilenet_v2", "IMAGENET1K_V2"


def test_the_catalogue_is_all_of_torchvision() -> None:
    catalogue = torchvision.catalogue()
    assert len(catalogue) > 100
    assert sorted(catalogue) == models.list_models()
    weights = {name: tuple(each.name for each in models.get_model_weights(name)) for name in models.list_models()}
    assert {name: entry.weights for name, entry in catalogue.items()} == weights
    for task, module in FOLDERS.items():
        assert [name for name in sorted(catalogue) if catalogue[name].task == task] == models.list_models(module)


def test_a_source_is_found_by_name() -> None:
    assert sources.find("torchvision").version().startswith("0.")
    with pytest.raises(UnknownName, match="unknown source library 'torchvison'; did you mean 'torchvision'\\?"):
        sources.find("torchvison")


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    torchvision.catalogue.cache_clear()
    monkeypatch.setattr(torchvision, "find_spec", lambda name: None)
    with pytest.raises(MissingLibrary, match=r"torchvision is not installed; pip install 'lite-zoo\[torchvision\]'"):
        torchvision.build(MODEL, num_classes=3)


@pytest.mark.parametrize(
    "model", [name for name in CLASSIFIERS if not name.startswith(("regnet", "googlenet", "inception"))]
)
def test_every_classifier_builds_with_any_number_of_classes(model: str) -> None:
    with torch.device("meta"):  # shapes without memory; 2.5 GB for the largest otherwise
        network = torchvision.build(model, num_classes=7)
    last = [parameter for parameter in network.parameters() if parameter.ndim > 1][-1]
    assert 7 in last.shape


@pytest.mark.parametrize(("model", "size"), [("regnet_y_400mf", 32), ("googlenet", 64), ("inception_v3", 80)])
def test_classifiers_that_need_values_to_build_return_one_tensor_in_training_too(model: str, size: int) -> None:
    network = torchvision.build(model, num_classes=7).train()
    assert network(torch.zeros(2, 3, size, size)).shape == (2, 7)


def test_vision_transformers_are_built_for_an_image_size() -> None:
    with torch.device("meta"):
        assert torchvision.build("vit_b_16", num_classes=7, image_size=64).encoder.pos_embedding.shape[1] == 16 + 1
        assert torchvision.build("vit_b_16", num_classes=7).encoder.pos_embedding.shape[1] == 14 * 14 + 1
        torchvision.build("resnet18", num_classes=7, image_size=64)  # takes any size and needs no telling


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_what_published_classifiers_say_of_themselves(model: str) -> None:
    for weights in set(torchvision.catalogue()[model].weights) - {"IMAGENET1K_FEATURES"}:
        assert len(torchvision.labels(model, weights)) == 1000
        expected = models.get_model_weights(model)[weights].transforms()
        found = torchvision.preprocessing(model, weights)
        assert [found.resize, found.size] == [*expected.resize_size, *expected.crop_size]
        assert [*found.mean, *found.std] == [*expected.mean, *expected.std]
        assert found.interpolation == expected.interpolation.value
        url = models.get_model_weights(model)[weights].url
        assert len(bytes.fromhex(Path(url).stem.rpartition("-")[2])) >= 4  # the digest that is checked


def test_weights_without_a_classifier_are_refused() -> None:
    with pytest.raises(UnknownName, match="weights IMAGENET1K_FEATURES hold no classifier; known: IMAGENET1K_V1, "):
        torchvision.labels("vgg16", "IMAGENET1K_FEATURES")


def test_licences() -> None:
    assert torchvision.licences("resnet50", "IMAGENET1K_V2").code == "BSD-3-Clause"
    assert "ImageNet" in torchvision.licences("resnet50", "IMAGENET1K_V2").weights
    assert torchvision.licences("vit_b_16", "IMAGENET1K_SWAG_LINEAR_V1").weights.startswith("CC-BY-NC-4.0")
    assert "this build" in torchvision.licences("resnet50", None).weights


@pytest.mark.parametrize("call", [torchvision.published, torchvision.labels, torchvision.preprocessing])
def test_unknown_names(call: object) -> None:
    assert callable(call)
    with pytest.raises(UnknownName, match=r"no model 'mobilnet_v2'; did you mean 'mobilenet_v2'\?"):
        call("mobilnet_v2", WEIGHTS)
    with pytest.raises(UnknownName, match="mobilenet_v2 has no weights 'V3'; known: IMAGENET1K_V1, IMAGENET1K_V2"):
        call(MODEL, "V3")


def test_an_image_size_that_patches_do_not_fill() -> None:
    with (
        torch.device("meta"),
        pytest.raises(StepError, match="vit_b_16 cannot be built for 65x65 images"),
    ):
        torchvision.build("vit_b_16", num_classes=2, image_size=65)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


def publish(monkeypatch: pytest.MonkeyPatch, cache: Path, content: bytes, model: str = MODEL) -> Path:
    """Let a miniature file be the published weights, and place it by hand."""
    file = cache / f"{model}-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    member = models.get_model_weights(model)[torchvision.catalogue()[model].weights[-1]]
    monkeypatch.setattr(member.value, "url", f"http://127.0.0.1:9/models/{file.name}")  # a port where nobody answers
    cache.mkdir(parents=True)
    file.write_bytes(content)
    return file


def saved(state: object, folder: Path) -> bytes:
    file = folder / "state.pt"
    torch.save(state, file)
    return file.read_bytes()


def test_published_weights_placed_by_hand(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"classifier.1.bias": torch.arange(4.0)}
    publish(monkeypatch, cache, saved(state, tmp_path))
    found = torchvision.published(MODEL, WEIGHTS)
    assert list(found) == ["classifier.1.bias"]
    assert found["classifier.1.bias"].tolist() == [0, 1, 2, 3]


def test_published_weights_fit_the_model_as_built(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = torchvision.build("densenet121", num_classes=1000)
    old = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value
        for key, value in network.state_dict().items()
    }
    publish(monkeypatch, cache, saved(old, tmp_path), "densenet121")
    network.load_state_dict(torchvision.published("densenet121", "IMAGENET1K_V1"), strict=True)


@pytest.mark.parametrize(
    ("model", "auxiliary"), [("googlenet", "aux1.conv.conv.weight"), ("inception_v3", "AuxLogits.fc.bias")]
)
def test_auxiliary_classifiers_are_left_out(
    model: str, auxiliary: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, cache, saved({auxiliary: torch.zeros(1), "fc.bias": torch.zeros(1)}, tmp_path), model)
    assert list(torchvision.published(model, "IMAGENET1K_V1")) == ["fc.bias"]


def test_without_network_the_error_says_what_to_place_where(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = publish(monkeypatch, cache, b"content")
    file.unlink()
    with pytest.raises(MissingWeights) as caught:
        torchvision.published(MODEL, WEIGHTS)
    message = str(caught.value)
    assert message.startswith("torchvision/mobilenet_v2: weights IMAGENET1K_V2 are not here and cannot be downloaded")
    assert f"download http://127.0.0.1:9/models/{file.name} on a connected machine" in message
    assert message.endswith(f"place it at {file}")
    assert "\n" not in message
    assert list(cache.iterdir()) == []


def test_a_damaged_file_in_the_cache(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = publish(monkeypatch, cache, saved({"a": torch.zeros(100)}, tmp_path))
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(IntegrityError, match=f"{file} is damaged: its SHA-256 begins with .*, not .*; delete it"):
        torchvision.published(MODEL, WEIGHTS)


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("exit 1",)


@pytest.mark.parametrize("content", [pickle.dumps({"a": Malicious()}, protocol=2), b"no checkpoint at all", b""])
def test_a_file_that_holds_more_or_less_than_weights(
    cache: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    publish(monkeypatch, cache, content)
    with pytest.raises(IntegrityError, match="holds no plain weights") as caught:
        torchvision.published(MODEL, WEIGHTS)
    assert str(caught.value).isprintable()


def test_a_pickle_inside_a_real_checkpoint(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, cache, saved({"a": torch.zeros(1), "b": Malicious()}, tmp_path))
    with pytest.raises(IntegrityError, match="holds no plain weights"):
        torchvision.published(MODEL, WEIGHTS)
