"""Models of torchvision: https://pytorch.org/vision/stable/models.html

The catalogue is read from the installed package's text, because importing torchvision takes seconds; a test holds it
against torchvision's own registry.
"""

import pickle
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import weight_files
from zoo.config import Preprocessing
from zoo.errors import IntegrityError, MissingLibrary, StepError, UnknownName, did_you_mean
from zoo.origin import Licences
from zoo.sources import Entry

if TYPE_CHECKING:
    from torch import Tensor, nn

FIELDS = ("model", "weights")

TASK_OF_FOLDER = {
    "models": "classification",
    "quantization": "quantized_classification",
    "segmentation": "segmentation",
    "detection": "detection_of_listed_images",  # which are of any size, and not one tensor
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
WITHOUT_AUXILIARY_HEAD = "lraspp_"  # the only segmenters
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


def build(model: str, *, num_classes: int, image_size: int | None = None) -> "nn.Module":
    """A classifier, (N, 3, H, W) in and (N, num_classes) out, or a segmenter, with fresh weights.

    A segmenter's output is a dict of logits (N, num_classes, H, W): "out" and, where it has the auxiliary head that its
    published weights hold, "aux".

    ``image_size`` is H and W in pixels, which vision transformers are built for; other models take any. Raises
    StepError for one that a transformer's patches do not fill.
    """
    arguments = dict(BUILD_ARGUMENTS.get(model, {}))
    if _entry(model).task == "segmentation":
        arguments |= {"weights_backbone": None, "aux_loss": not model.startswith(WITHOUT_AUXILIARY_HEAD)}
    from torchvision.models import get_model

    if image_size and model.startswith("vit_"):
        arguments["image_size"] = image_size
    try:
        network: nn.Module = get_model(model, weights=None, num_classes=num_classes, **arguments)
    except AssertionError as error:
        fact = weight_files.reason(error)
        raise StepError(
            f"torchvision/{model} cannot be built for {image_size}x{image_size} images ({fact}); "
            "set another input_size in the profile"
        ) from error
    return network


def published(model: str, weights: str, *, image_size: int | None = None) -> "dict[str, Tensor]":
    """The state_dict of published weights, from torch.hub's cache or downloaded into it."""
    import torch

    what = f"torchvision/{model}: weights {weights}"
    file = weight_files.fetched(_member(model, weights).url, what)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = weight_files.reason(error)
        raise IntegrityError(f"{what}: {file} holds no plain weights ({reason}); delete it and build again") from error
    return _renamed(model, state)


def labels(model: str, weights: str | None) -> tuple[str, ...]:
    categories = _member(model, weights).meta["categories"]
    if categories is None:
        known = ", ".join(catalogue()[model].weights)
        raise UnknownName(f"torchvision/{model}: weights {weights} hold no classifier; known: {known}")
    return tuple(categories)


def preprocessing(model: str, weights: str | None) -> Preprocessing:
    """Segmenters were evaluated on whole images, their short side resized; of a square the long side is that long."""
    transforms = _member(model, weights).transforms()
    is_segmenter = _entry(model).task == "segmentation"
    return Preprocessing(
        geometry="letterbox" if is_segmenter else "crop",
        resize=transforms.resize_size[0],
        size=(transforms.resize_size if is_segmenter else transforms.crop_size)[0],
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
    elif _entry(model).task == "segmentation":
        terms = "BSD-3-Clause (torchvision); trained on COCO, images under various terms, its backbone on ImageNet-1k"
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


def _member(model: str, weights: str | None) -> Any:
    known = _entry(model).weights
    if weights not in known:
        raise UnknownName(f"torchvision/{model} has no weights '{weights}'; known: {', '.join(known) or 'none'}")
    from torchvision.models import get_model_weights

    return get_model_weights(model)[weights]


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
