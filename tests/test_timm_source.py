"""timm: the catalogue agrees with timm's registry, models build at any size, published weights load or say why not."""

import dataclasses
import hashlib
import os
from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import timm as library
import torch
import yaml
from small_checkout import PROFILE, PROFILE_TEXT, TEXTS, write
from timm.layers import is_notrace_module
from timm.models import _registry, get_pretrained_cfg
from torch import nn

import surgery
from zoo import sources
from zoo.errors import IntegrityError, InvalidInput, MissingLibrary, MissingWeights, StepError, UnknownName
from zoo.graph.reading import read
from zoo.linting.lint import lint
from zoo.onnx.exporting import export
from zoo.onnx.simplifying import simplify
from zoo.reading.library import load
from zoo.recipe import Recipe
from zoo.sources import timm
from zoo.targets.reading import read as read_target

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes" / "timm").glob("*.yaml"))
ARCHITECTURE, TAG = "test_vit", "r160_in1k"  # 370 thousand parameters, built for 160x160
MODEL = f"{ARCHITECTURE}.{TAG}"
CLASSES = {1000, 11221, 11821, 21841, 21842, 21843}  # the sets of ImageNet classes that timm can name


def recipe(file: Path) -> Recipe:
    return Recipe.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))


def name(file: Path) -> str:
    return file.stem


def tags(architecture: str) -> tuple[str, ...]:
    """As timm registers them, its default first."""
    known = _registry._model_default_cfgs[architecture]
    return tuple(tag for tag in known.tags if known.cfgs[tag].has_weights)


def test_the_catalogue_is_all_of_timm() -> None:
    catalogue = timm.catalogue()
    architectures = [each for each in catalogue if "." not in each]
    assert len(architectures) > 1300
    assert sorted(architectures) == sorted(library.list_models())
    different = {each for each in architectures if catalogue[each].weights != tags(each)}
    assert len(different) < 30
    for architecture in different:  # tags that timm computes, of models without a classifier
        assert catalogue[architecture].weights == ()
        assert not CLASSES & {get_pretrained_cfg(f"{architecture}.{tag}").num_classes for tag in tags(architecture)}
    tagged = {f"{each}.{tag}" for each in architectures for tag in catalogue[each].weights}
    assert len(tagged) > 1700
    assert tagged == {each for each in catalogue if "." in each}
    assert {entry.task for entry in catalogue.values()} == {"classification"}


def test_a_tag_names_the_weights_and_an_architecture_alone_has_a_default() -> None:
    catalogue = timm.catalogue()
    assert catalogue["mobilenetv3_large_100.ra_in1k"] == sources.Entry("classification", ("ra_in1k",), "ra_in1k")
    assert catalogue["mobilenetv3_large_100"].default == "ra_in1k"
    assert "miil_in21k_ft_in1k" in catalogue["mobilenetv3_large_100"].weights
    assert catalogue["efficientnet_es_pruned"].default == get_pretrained_cfg("efficientnet_es_pruned").tag


def test_it_is_found_by_name() -> None:
    assert sources.find("timm").version() == library.__version__


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    timm.catalogue.cache_clear()
    monkeypatch.setattr(timm, "find_spec", lambda name: None)
    with pytest.raises(MissingLibrary, match=r"timm is not installed; pip install 'lite-zoo\[timm\]'"):
        timm.build(MODEL, num_classes=3)


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        ("mobilnetv3_large_100", r"no model 'mobilnetv3_large_100'; did you mean 'mobilenetv3_large_100'\?"),
        ("resnet50.a1_in2k", r"no model 'resnet50.a1_in2k'; did you mean 'resnet50.a1_in1k'\?"),
        ("hf-hub:timm/resnet50", "no model 'hf-hub:timm/resnet50'"),
    ],
)
def test_unknown_models(model: str, complaint: str) -> None:
    with pytest.raises(UnknownName, match=complaint):
        timm.build(model, num_classes=3)


@pytest.mark.parametrize("call", [timm.published, timm.labels, timm.preprocessing, timm.licences])
def test_unknown_weights(call: object) -> None:
    assert callable(call)
    with pytest.raises(UnknownName, match="timm/regnety_004 has no weights 'a1'; known: tv2_in1k, pycls_in1k"):
        call("regnety_004", "a1")
    with pytest.raises(UnknownName, match=r"timm/regnety_004\.tv2_in1k has no weights 'pycls_in1k'; known: tv2_in1k"):
        call("regnety_004.tv2_in1k", "pycls_in1k")


@pytest.mark.parametrize("model", [MODEL, ARCHITECTURE, "test_efficientnet", "test_convnext"])
@pytest.mark.parametrize("size", [64, 160])
def test_models_build_for_a_number_of_classes_and_a_size(model: str, size: int) -> None:
    network = timm.build(model, num_classes=7, image_size=size)
    assert network.train()(torch.zeros(2, 3, size, size)).shape == (2, 7)


def test_without_a_size_a_model_is_built_for_that_of_its_weights() -> None:
    assert timm.build(ARCHITECTURE, num_classes=7)(torch.zeros(1, 3, 160, 160)).shape == (1, 7)


def test_what_published_classifiers_say_of_themselves() -> None:
    example, fitted, refused = {}, 0, 0
    for model, entry in timm.catalogue().items():
        config = get_pretrained_cfg(model)
        if "." not in model or config.num_classes not in CLASSES:
            continue
        (weights,) = entry.weights
        example[config.num_classes] = (model, weights)
        if config.crop_mode == "center" and len(set(config.input_size[1:])) == 1 and config.crop_pct <= 1:
            found = timm.preprocessing(model, weights)
            assert (found.size, found.mean, found.std) == (config.input_size[1], config.mean, config.std)
            assert found.size <= found.resize
            fitted += 1
        else:
            with pytest.raises(StepError, match="more than a central square of it; use other weights: "):
                timm.preprocessing(model, weights)
            refused += 1
    assert fitted > 1300
    assert refused > 20
    assert example.keys() == CLASSES
    for number, (model, weights) in example.items():
        assert len(timm.labels(model, weights)) == number


@pytest.mark.parametrize("file", RECIPES, ids=name)
def test_preprocessing_is_what_timm_evaluates_with(file: Path) -> None:
    model = recipe(file).source.name
    weights = model.partition(".")[2]
    transform = library.data.create_transform(
        **library.data.resolve_data_config(pretrained_cfg=get_pretrained_cfg(model).to_dict())
    )
    resize, crop, _, normalise = transform.transforms
    found = timm.preprocessing(model, weights)
    assert [found.resize, found.size, found.size] == [resize.size, *crop.size]
    assert found.interpolation == resize.interpolation.value
    assert list(found.mean) == pytest.approx(normalise.mean.tolist())
    assert list(found.std) == pytest.approx(normalise.std.tolist())
    assert timm.labels(model, weights)[:2] == ("tench, Tinca tinca", "goldfish, Carassius auratus")


def test_weights_without_a_classifier_are_refused() -> None:
    with pytest.raises(UnknownName, match=r"weights mae hold no classifier; known: mae_in1k_ft_in1k"):
        timm.labels("hiera_tiny_224", "mae")


def test_licences() -> None:
    assert timm.licences("resnet50", None).code == "Apache-2.0"
    assert "this build" in timm.licences("resnet50", None).weights
    assert timm.licences("resnet50", "a1_in1k").weights.startswith("Apache-2.0 (timm); trained on ImageNet")
    assert timm.licences("convnextv2_atto", "fcmae_ft_in1k").weights.startswith("CC-BY-NC-4.0 (timm)")
    assert timm.licences("gernet_s", "idstcv_in1k").weights.startswith("Apache-2.0")
    stated = {timm.licences(model, model.partition(".")[2]).weights for model in timm.catalogue() if "." in model}
    assert "no licence stated by timm; trained on ImageNet, whose terms limit use to research" in stated


@pytest.fixture
def torch_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch.hub and an empty Hugging Face cache, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def hub_cache(torch_cache: Path, tmp_path: Path) -> Path:
    return tmp_path / "hub"


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return dict(library.create_model(MODEL).state_dict())


def in_hub(cache: Path, content: bytes, digest: str | None = None) -> Path:
    """A file in the layout of the Hugging Face cache: a link to a blob that is named by its SHA-256."""
    folder = cache / f"models--timm--{MODEL}"
    blob = folder / "blobs" / (digest or hashlib.sha256(content).hexdigest())
    file = folder / "snapshots" / "0123" / "model.safetensors"
    for each in (blob, file, folder / "refs" / "main"):
        each.parent.mkdir(parents=True)
    blob.write_bytes(content)
    file.symlink_to(blob)
    (folder / "refs" / "main").write_text("0123")
    return file


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return list(found) == list(expected) and all(torch.equal(found[key], expected[key]) for key in expected)


def test_published_weights_in_the_hubs_cache(hub_cache: Path, weights: dict[str, torch.Tensor]) -> None:
    in_hub(hub_cache, safetensors.torch.save(weights))
    assert same(timm.published(MODEL, TAG), weights)
    timm.build(MODEL, num_classes=1000).load_state_dict(timm.published(ARCHITECTURE, TAG), strict=True)


def test_published_weights_placed_by_hand(torch_cache: Path, weights: dict[str, torch.Tensor]) -> None:
    safetensors.torch.save_file(weights, torch_cache / f"{MODEL}.safetensors")
    assert same(timm.published(MODEL, TAG), weights)


def test_published_weights_at_another_size(torch_cache: Path, weights: dict[str, torch.Tensor]) -> None:
    safetensors.torch.save_file(weights, torch_cache / f"{MODEL}.safetensors")
    found = timm.published(MODEL, TAG, image_size=64)
    timm.build(MODEL, num_classes=1000, image_size=64).load_state_dict(found, strict=True)
    assert found["pos_embed"].shape == (1, 16 + 1, 64)  # resampled from 10 x 10 patches
    assert torch.equal(found["head.weight"], weights["head.weight"])


def at_url(monkeypatch: pytest.MonkeyPatch, cache: Path, content: bytes, *, hub: str | None = "timm/x") -> Path:
    """Let a miniature file be what the URL of the weights names, and place it in torch.hub's cache."""
    file = cache / f"test_vit-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    url = f"http://127.0.0.1:9/models/{file.name}"  # a port where nobody answers
    config = dataclasses.replace(get_pretrained_cfg(MODEL), url=url, hf_hub_id=hub)
    monkeypatch.setattr(timm, "_config_of", lambda name: config)
    file.write_bytes(content)
    return file


def saved(state: object, folder: Path) -> bytes:
    torch.save(state, folder / "state.pt")
    return (folder / "state.pt").read_bytes()


@pytest.mark.parametrize("hub", ["timm/x", None])
def test_published_weights_in_torchs_cache(
    hub: str | None,
    tmp_path: Path,
    torch_cache: Path,
    weights: dict[str, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_url(monkeypatch, torch_cache, saved(weights, tmp_path), hub=hub)
    assert same(timm.published(MODEL, TAG), weights)


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("exit 1",)


def test_a_file_that_holds_more_than_weights(
    tmp_path: Path, torch_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = at_url(monkeypatch, torch_cache, saved({"head.bias": torch.zeros(1000), "b": Malicious()}, tmp_path))
    with pytest.raises(IntegrityError, match=f"{file} holds no such weights") as caught:
        timm.published(MODEL, TAG)
    assert str(caught.value).isprintable()


def test_a_damaged_file_of_a_url(tmp_path: Path, torch_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = at_url(monkeypatch, torch_cache, saved({"a": torch.zeros(100)}, tmp_path))
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(IntegrityError, match=f"{file} is damaged: its SHA-256 begins with .*, not .*; delete it"):
        timm.published(MODEL, TAG)


def test_a_damaged_file_in_the_hubs_cache(hub_cache: Path, weights: dict[str, torch.Tensor]) -> None:
    content = bytearray(safetensors.torch.save(weights))
    digest = hashlib.sha256(content).hexdigest()
    content[-1] ^= 1  # what safetensors itself does not see
    file = in_hub(hub_cache, bytes(content), digest)
    with pytest.raises(IntegrityError, match=f"{file} is damaged: its SHA-256 begins with .*, not {digest}"):
        timm.published(MODEL, TAG)


@pytest.mark.parametrize("content", [b"", b"no weights at all", "cut", "another model's"])
def test_a_damaged_file_placed_by_hand(
    content: bytes | str, torch_cache: Path, weights: dict[str, torch.Tensor]
) -> None:
    if content == "cut":
        content = safetensors.torch.save(weights)[:-10]
    elif content == "another model's":
        content = safetensors.torch.save({"conv.weight": torch.zeros(3)})
    assert isinstance(content, bytes)
    file = torch_cache / f"{MODEL}.safetensors"
    file.write_bytes(content)
    with pytest.raises(IntegrityError, match=f"{file} holds no such weights .*; delete it and build again"):
        timm.published(MODEL, TAG)


def test_without_network_the_error_says_what_to_place_where(torch_cache: Path) -> None:
    with pytest.raises(MissingWeights) as caught:
        timm.published(MODEL, TAG)
    message = str(caught.value)
    url = f"https://huggingface.co/timm/{MODEL}/resolve/main/model.safetensors"
    assert message.startswith(f"timm/{ARCHITECTURE}: weights {TAG} are not here and cannot be downloaded (")
    assert f"; download {url} on a connected machine and place it at {torch_cache / MODEL}.safetensors" in message
    assert "\n" not in message


@pytest.mark.parametrize("model", ["test_nfnet", "test_byobnet"])
def test_models_that_timm_does_not_trace_whole(model: str) -> None:
    network = timm.build(model, num_classes=5).eval()
    registered = {type(module) for module in network.modules() if is_notrace_module(type(module))}
    assert registered
    image = torch.randn(1, 3, 64, 64)
    lite, report = surgery.lite(network, example_inputs=image)
    assert report.edits
    assert not report.refusals
    exported = torch.export.export(lite.eval(), (image,)).module()
    assert torch.allclose(exported(image), lite(image), atol=1e-5)


def lite_of(file: Path, image: torch.Tensor) -> tuple[nn.Module, surgery.Report]:
    wanted = recipe(file)
    network = timm.build(wanted.source.name, num_classes=10, image_size=image.shape[-1])
    rules = "default" if wanted.surgery.rules == "default" else []
    lite, report = surgery.lite(network, rules, example_inputs=image)
    return lite.eval(), report


def test_the_recipes_of_the_issue_are_there() -> None:
    assert len(RECIPES) >= 10
    assert {recipe(file).source.library for file in RECIPES} == {"timm"}


@pytest.mark.slow
@pytest.mark.parametrize("file", RECIPES, ids=name)
def test_a_recipe_is_edited_as_its_name_says_and_runs_on_its_target(file: Path) -> None:
    image = torch.randn(1, 3, 64, 64)
    lite, report = lite_of(file, image)
    assert report.is_lite == file.stem.endswith("_lite") == (recipe(file).surgery.expect == "edits")
    assert not report.refusals
    target = read_target(recipe(file).target, ROOT)
    exported = export(lite, image, opset=target.opset.export, ir_version=target.ir_version)
    linted = lint(read(simplify(exported, image).model), target, model=file.stem, target_name=recipe(file).target)
    assert [finding for finding in linted.findings if finding.severity == "error"] == []
    assert linted.summary.node_share == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "file", [file for file in RECIPES if file.stem.startswith(("vit", "convnext", "regnety"))], ids=name
)
def test_a_lite_model_exports_to_onnx(file: Path) -> None:
    image = torch.randn(1, 3, 64, 64)
    lite, _ = lite_of(file, image)
    operators = {node.op_type for node in export(lite, image, opset=18).graph.node}
    assert operators >= {"Conv", "Relu", "Gemm"}
    assert not operators & {"Gelu", "Erf", "LayerNormalization", "Sigmoid", "Resize", "Pad"}


TIMM_RECIPE = "recipes/timm/x_lite.yaml"
TIMM_TEXT = "source: {library: timm, MODEL}\ntask: classification\ntarget: chip\n"
PUBLISHED = {
    PROFILE: PROFILE_TEXT.replace("scratch", "published").replace("    baseline: short\n", ""),
}


def complaints(root: Path) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        load(root)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "source",
    [
        "model: resnet50.a1_in1k",
        "model: resnet50, weights: a1_in1k",
        "model: resnet50.a1_in1k, weights: a1_in1k",
        "model: resnet50",
    ],
)
def test_every_way_to_name_weights(tmp_path: Path, source: str) -> None:
    loaded = load(write(tmp_path, {**TEXTS, **PUBLISHED, TIMM_RECIPE: TIMM_TEXT.replace("MODEL", source)}))
    assert loaded.recipes["x_lite"].source.name.startswith("resnet50")


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("model: resnt50", "source.model: unknown timm model 'resnt50'; did you mean 'resnet50'?"),
        (
            "model: resnet50.a1_in2k",
            "source.model: unknown timm model 'resnet50.a1_in2k'; did you mean 'resnet50.a1_in1k'?",
        ),
        (
            "model: resnet50, weights: a1_in2k",
            "source.weights: timm/resnet50 has no weights 'a1_in2k'; did you mean 'a1_in1k'?",
        ),
        (
            "model: regnety_004.tv2_in1k, weights: pycls_in1k",
            "source.weights: timm/regnety_004.tv2_in1k has no weights 'pycls_in1k'; known: tv2_in1k",
        ),
    ],
)
def test_wrong_names_in_a_recipe(tmp_path: Path, source: str, complaint: str) -> None:
    write(tmp_path, {**TEXTS, TIMM_RECIPE: TIMM_TEXT.replace("MODEL", source)})
    assert complaints(tmp_path) == [f"{TIMM_RECIPE}:1: {complaint}"]


def test_a_model_without_published_weights_cannot_start_from_them(tmp_path: Path) -> None:
    model = next(name for name, entry in timm.catalogue().items() if not entry.weights)
    write(tmp_path, {**TEXTS, **PUBLISHED, TIMM_RECIPE: TIMM_TEXT.replace("MODEL", f"model: {model}")})
    fact = "required field is missing: profile 'demo' uses published weights"
    assert complaints(tmp_path) == [f"{TIMM_RECIPE}:1: source.weights: {fact}; add 'weights: ...'"]


def test_two_libraries_cannot_share_a_name(tmp_path: Path) -> None:
    second = "recipes/torchvision/x_lite.yaml"
    write(tmp_path, {**TEXTS, TIMM_RECIPE: TIMM_TEXT.replace("MODEL", "model: resnet50")})
    write(tmp_path, {second: TEXTS["recipes/torchvision/mobilenet_v2_lite.yaml"]})
    assert complaints(tmp_path) == [f"{second}:1: the name 'x_lite' is taken by {TIMM_RECIPE}; rename one of them"]


def test_a_model_without_published_weights_is_known_by_its_config() -> None:
    name = "botnet50ts_256"
    assert not timm.catalogue()[name].weights
    assert (timm.preprocessing(name, None).size, len(timm.labels(name, None))) == (256, 1000)
