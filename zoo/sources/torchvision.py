"""Models of torchvision: https://pytorch.org/vision/stable/models.html

The catalogue is read from the installed package's text, because importing torchvision takes seconds; a test holds it
against torchvision's own registry.
"""

import hashlib
import pickle
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from zoo.config import Preprocessing
from zoo.errors import IntegrityError, MissingLibrary, MissingWeights, UnknownName, did_you_mean
from zoo.origin import Licences
from zoo.sources import Entry

if TYPE_CHECKING:
    from torch import Tensor, nn

TASK_OF_FOLDER = {
    "models": "classification",
    "quantization": "quantized_classification",
    "segmentation": "segmentation",
    "detection": "detection",
    "video": "video_classification",
    "optical_flow": "optical_flow",
}

WEIGHTS = re.compile(r"^class (\w+)\(WeightsEnum\):|^    (\w+) = Weights\(", re.MULTILINE)
REGISTERED = re.compile(r"^@register_model\((?:name=\"(\w+)\")?\)\n", re.MULTILINE)  # a name, else the function's
SIGNATURE = re.compile(r"^def (\w+)\([^)]*?\bweights: [^=]*?(\w+Weights)\b", re.MULTILINE)

# Dense layers were once called `norm.1`; `norm1` is what the present model has.
DENSENET_OLD_NAME = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.\w+)")

# Auxiliary classifiers help only long trainings from scratch and make the training output a tuple. `transform_input`
# belongs to the published weights, which were trained on inputs scaled in another way.
BUILD_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "googlenet": {"aux_logits": False, "transform_input": True, "init_weights": True},
    "inception_v3": {"aux_logits": False, "transform_input": True, "init_weights": True},
}
AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}


def version() -> str:
    """The installed version, such as ``0.29.2``."""
    try:
        return installed_version("torchvision")
    except PackageNotFoundError as error:
        raise _missing_library() from error


@cache
def catalogue() -> Mapping[str, Entry]:
    """Every registered model by name."""
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise _missing_library()
    root = Path(spec.origin).parent / "models"
    texts = {file: file.read_text(encoding="utf-8") for file in root.rglob("*.py") if not file.stem.startswith("_")}
    weights = dict(pair for text in texts.values() for pair in _published_in(text))
    return {
        name: Entry(TASK_OF_FOLDER.get(file.parent.name, file.parent.name), weights[enum])
        for file, text in sorted(texts.items())
        for name, enum in _registered_in(text)
    }


def build(model: str, *, num_classes: int) -> "nn.Module":
    """A classification model with fresh weights: (N, 3, H, W) in, (N, num_classes) out."""
    _entry(model)
    from torchvision.models import get_model

    network: nn.Module = get_model(model, weights=None, num_classes=num_classes, **BUILD_ARGUMENTS.get(model, {}))
    return network


def published(model: str, weights: str) -> "dict[str, Tensor]":
    """The state_dict of published weights, from torch.hub's cache or downloaded into it."""
    import torch

    url = _member(model, weights).url
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    what = f"torchvision/{model}: weights {weights}"
    if file.exists():
        _verify(file, what, url)
    else:
        _download(url, file, what)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise IntegrityError(f"{what}: {file} holds no plain weights ({reason}); delete it and build again") from error
    return _renamed(model, state)


def labels(model: str, weights: str) -> tuple[str, ...]:
    categories = _member(model, weights).meta["categories"]
    if categories is None:
        known = ", ".join(catalogue()[model].weights)
        raise UnknownName(f"torchvision/{model}: weights {weights} hold no classifier; known: {known}")
    return tuple(categories)


def preprocessing(model: str, weights: str) -> Preprocessing:
    transforms = _member(model, weights).transforms()
    return Preprocessing(
        resize=transforms.resize_size[0],
        size=transforms.crop_size[0],
        interpolation=transforms.interpolation.value,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )


def licences(model: str, weights: str | None) -> Licences:
    """torchvision states no licence for its weights; those called SWAG are CC-BY-NC-4.0 by their publisher."""
    if weights is None:
        terms = "trained by this build; see its dataset's licence"
    elif "SWAG" in weights:
        terms = "CC-BY-NC-4.0 (SWAG)"
    else:
        terms = "BSD-3-Clause (torchvision); trained on ImageNet-1k, whose terms limit use to research"
    return Licences(code="BSD-3-Clause", weights=terms)


def _published_in(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each class of weights in a module's text, with the names of its members."""
    members: dict[str, list[str]] = {}
    enum = ""
    for started, member in WEIGHTS.findall(text):
        if started:
            enum = started
        members.setdefault(enum, []).extend([member] if member else [])
    return ((enum, tuple(names)) for enum, names in members.items())


def _registered_in(text: str) -> Iterator[tuple[str, str]]:
    """Each registered model in a module's text, with the name of its class of weights."""
    for decorator in REGISTERED.finditer(text):
        if signature := SIGNATURE.search(text, decorator.end()):
            yield decorator[1] or signature[1], signature[2]


def _entry(model: str) -> Entry:
    known = catalogue()
    if model not in known:
        raise UnknownName(f"torchvision {version()} has no model '{model}'; {did_you_mean(model, known)}".rstrip("; "))
    return known[model]


def _member(model: str, weights: str) -> Any:
    known = _entry(model).weights
    if weights not in known:
        raise UnknownName(f"torchvision/{model} has no weights '{weights}'; known: {', '.join(known) or 'none'}")
    from torchvision.models import get_model_weights

    return get_model_weights(model)[weights]


def _verify(file: Path, what: str, url: str) -> None:
    """torch checks the digest, whose beginning is in the file's name, only when it downloads."""
    expected = file.stem.rpartition("-")[2]
    with file.open("rb") as stream:
        actual = hashlib.file_digest(stream, "sha256").hexdigest()
    if not actual.startswith(expected):
        raise IntegrityError(
            f"{what}: {file} is damaged: its SHA-256 begins with {actual[: len(expected)]}, not {expected}; delete it "
            f"and build again, or download {url} by hand"
        )


def _download(url: str, file: Path, what: str) -> None:
    from http.client import HTTPException  # here, because it imports ssl and `doit list` reads this module's catalogue

    import torch

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), hash_prefix=file.stem.rpartition("-")[2], progress=False)
    except (OSError, HTTPException) as error:
        reason = " ".join(str(error).split())[:120]
        raise MissingWeights(
            f"{what} are not here and cannot be downloaded ({reason}); download {url} on a connected machine and place "
            f"it at {file}"
        ) from error
    except RuntimeError as error:  # the digest is not the one in the name
        raise IntegrityError(f"{what}: the download is damaged ({error}); build again") from error


def _renamed(model: str, state: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """The keys of the model as `build` makes it; the dict itself is kept, for the module versions that it carries."""
    for key in list(state):
        if key.startswith(AUXILIARY.get(model, ())):
            del state[key]
        elif old := DENSENET_OLD_NAME.fullmatch(key):
            state[old[1] + old[2]] = state.pop(key)
    return state


def _missing_library() -> MissingLibrary:
    return MissingLibrary("torchvision is not installed; pip install 'lite-zoo[torchvision]'")
