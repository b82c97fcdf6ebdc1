"""Models of timm: https://huggingface.co/docs/timm

A model is named as timm names it, ``mobilenetv3_large_100.ra_in1k``: an architecture and, behind the dot, the tag of
published weights. The architecture alone stands for its first tag, which is timm's default.

The catalogue is read from the installed package's text, because importing timm takes seconds; a test holds it against
timm's own registry. A few text and image encoders have tags that timm computes; they are listed without weights, and
none of those holds a classifier.

timm's no-trace registries ask for nothing here: they keep its tracing of whole models out of modules that cannot be
traced, while surgery traces one module's forward at a time and declines where that fails.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import weight_files
from zoo.config import Preprocessing
from zoo.errors import IntegrityError, MissingLibrary, StepError, UnknownName, did_you_mean
from zoo.origin import Licences
from zoo.sources import Entry

if TYPE_CHECKING:
    from timm.models._pretrained import PretrainedCfg
    from torch import Tensor, nn

FIELDS = ("model", "weights")

ARCHITECTURE = re.compile(r"^@register_model\ndef (\w+)", re.MULTILINE)
CONFIGS = re.compile(r"^default_cfgs = .*?^[})]", re.MULTILINE | re.DOTALL)
CONFIG = re.compile(r"""^ {4,8}["'](\w+)\.(\w+)["']:\s*(\w*[({])""", re.MULTILINE)  # architecture, tag, what makes it
PLACE = re.compile(r"""^[^#\n]*?(?:\b(?:hf_hub_id|url)["']?\s*[=:]\s*|cfg\(\s*)["'][^"'\s]""", re.MULTILINE)

BLOB_DIGEST = re.compile(r"[0-9a-f]{64}")  # the hub's cache names large files by their SHA-256
SPDX = {name.lower(): name for name in ("Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-NC-4.0")}
IMAGENET_TAG = re.compile(r"in(1k|12k|21k|22k)")


def version() -> str:
    """The installed version, such as ``1.0.31``."""
    try:
        return installed_version("timm")
    except PackageNotFoundError as error:
        raise _missing_library() from error


@cache
def catalogue() -> Mapping[str, Entry]:
    """Every architecture, and every architecture with each of its tags; an architecture's first tag is its default."""
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        raise _missing_library()
    files = sorted((Path(spec.origin).parent / "models").glob("[!_]*.py"))
    texts = [file.read_text(encoding="utf-8") for file in files]
    tags: dict[str, list[str]] = {}
    for architecture, tag in (pair for text in texts for pair in _published_in(text)):
        tags.setdefault(architecture, []).append(tag)
    found = {}
    for architecture in (name for text in texts for name in ARCHITECTURE.findall(text)):
        known = tuple(tags.get(architecture, ()))
        found[architecture] = Entry("classification", known, known[0] if known else None)
        found |= {f"{architecture}.{tag}": Entry("classification", (tag,), tag) for tag in known}
    return found


def build(model: str, *, num_classes: int, image_size: int | None = None) -> "nn.Module":
    """A classifier with fresh weights: (N, 3, H, W) in, (N, num_classes) out.

    ``image_size`` is H and W in pixels, for models that are built for one size only, such as vision transformers;
    others take any size. None is the size of the published weights.
    """
    _entry(model)
    import timm

    network: nn.Module = timm.create_model(model, num_classes=num_classes, **_sized(model, image_size))
    return network


def published(model: str, weights: str, *, image_size: int | None = None) -> "dict[str, Tensor]":
    """The state_dict of published weights, loaded as timm loads them into the model built for ``image_size``.

    They are taken from torch.hub's cache or the Hugging Face hub's, or downloaded into the latter.
    """
    config = _config(model, weights)
    what = f"timm/{config.architecture}: weights {weights}"
    file = _file(config, what)
    import timm

    custom = config.custom_load and file.suffix != ".safetensors"
    try:
        network: nn.Module = timm.create_model(
            f"{config.architecture}.{weights}",
            pretrained=True,
            pretrained_cfg_overlay={"file": str(file), "custom_load": custom},
            **_sized(model, image_size),
        )
    except Exception as error:  # each model has its own way of reading files, which meets a strange one with anything
        raise IntegrityError(
            f"{what}: {file} holds no such weights ({weight_files.reason(error)}); delete it and build again"
        ) from error
    return network.state_dict()


def labels(model: str, weights: str | None) -> tuple[str, ...]:
    """The classes of ImageNet-1k, or of the larger subset that has as many as the weights."""
    config = _config(model, weights)
    subset = _subset(config)
    if subset is None:
        others = ", ".join(_others(model, lambda other: _subset(other) is not None))
        raise UnknownName(f"timm/{model}: weights {weights} hold no classifier; known: {others or 'none'}")
    from timm.data.imagenet_info import ImageNetInfo

    return tuple(ImageNetInfo(subset).label_descriptions())


def preprocessing(model: str, weights: str | None) -> Preprocessing:
    """As timm evaluates the weights: the short side is the crop's size divided by its share of the image.

    Raises StepError where images are fitted in another way than by a central square.
    """
    config = _config(model, weights)
    if not _is_central_square(config):
        way = f"crop mode '{config.crop_mode}', crop {config.crop_pct}"
        others = ", ".join(_others(model, _is_central_square))
        raise StepError(
            f"timm/{model}: weights {weights} see an image as {config.input_size[2]}x{config.input_size[1]} ({way}), "
            f"more than a central square of it; use other weights: {others or 'none'}"
        )
    size = config.input_size[-1]
    return Preprocessing.model_validate(
        {
            "resize": floor(size / config.crop_pct),
            "size": size,
            "interpolation": config.interpolation,
            "mean": config.mean,
            "std": config.std,
        }
    )


def licences(model: str, weights: str | None) -> Licences:
    """timm states a licence for most of its weights; ImageNet's terms are their own."""
    if weights is None:
        return Licences(code="Apache-2.0", weights="trained by this build; see its dataset's licence")
    stated = _config(model, weights).license or "unknown"
    terms = "no licence stated by timm" if stated == "unknown" else f"{SPDX.get(stated, stated)} (timm)"
    if IMAGENET_TAG.search(weights):
        terms += "; trained on ImageNet, whose terms limit use to research"
    return Licences(code="Apache-2.0", weights=terms)


def _published_in(text: str) -> Iterator[tuple[str, str]]:
    """Architecture and tag of each of a module's configs that says where its weights are."""
    if block := CONFIGS.search(text):
        _, *parts = CONFIG.split(block[0])
        for architecture, tag, maker, rest in zip(*(parts[start::4] for start in range(4)), strict=True):
            if PLACE.search(maker + rest):
                yield architecture, tag


def _entry(model: str) -> Entry:
    known = catalogue()
    if model not in known:
        raise UnknownName(f"timm {version()} has no model '{model}'; {did_you_mean(model, known)}".rstrip("; "))
    return known[model]


def _config(model: str, weights: str | None) -> "PretrainedCfg":
    known = _entry(model).weights
    if weights is None:
        return _config_of(model)
    if weights not in known:
        raise UnknownName(f"timm/{model} has no weights '{weights}'; known: {', '.join(known) or 'none'}")
    return _config_of(f"{_architecture(model)}.{weights}")


def _config_of(name: str) -> "PretrainedCfg":
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name)
    assert config is not None  # the catalogue knows it
    return config


def _architecture(model: str) -> str:
    return model.partition(".")[0]


def _others(model: str, fits: Any) -> list[str]:
    """The architecture's weights whose config fits."""
    architecture = _architecture(model)
    return [tag for tag in catalogue()[architecture].weights if fits(_config_of(f"{architecture}.{tag}"))]


def _subset(config: "PretrainedCfg") -> str | None:
    from timm.data.imagenet_info import infer_imagenet_subset

    return infer_imagenet_subset({"num_classes": config.num_classes})


def _is_central_square(config: "PretrainedCfg") -> bool:
    return config.crop_mode == "center" and config.input_size[1] == config.input_size[2] and config.crop_pct <= 1


def _sized(model: str, image_size: int | None) -> dict[str, Any]:
    return {"img_size": image_size} if image_size and _config_of(model).fixed_input_size else {}


def _file(config: "PretrainedCfg", what: str) -> Path:
    """A file of weights: placed by hand, in one of the two caches, or downloaded."""
    earlier = config.url if isinstance(config.url, str) else ""  # where most weights were before they came to the hub
    if not config.hf_hub_id:
        return weight_files.fetched(earlier, what)
    from huggingface_hub import hf_hub_download, hf_hub_url, try_to_load_from_cache

    repository, _, revision = config.hf_hub_id.partition("@")
    name = config.hf_hub_filename or "model.safetensors"
    url = hf_hub_url(repository, name, revision=revision or None)
    by_hand = weight_files.place(f"{config.architecture}.{config.tag}{Path(name).suffix}")
    if by_hand.exists():
        return by_hand
    cached = try_to_load_from_cache(repository, name, revision=revision or None)
    if isinstance(cached, str):
        return _verified(Path(cached), what, url)
    if earlier and weight_files.of_url(earlier).exists():
        return weight_files.fetched(earlier, what)
    try:
        return Path(hf_hub_download(repository, name, revision=revision or None))
    except OSError as error:
        raise weight_files.missing(what, url, by_hand, error) from error


def _verified(file: Path, what: str, url: str) -> Path:
    blob = file.resolve().name
    if BLOB_DIGEST.fullmatch(blob):
        weight_files.verify(file, blob, what, url)
    return file


def _missing_library() -> MissingLibrary:
    return MissingLibrary("timm is not installed; pip install 'lite-zoo[timm]'")
