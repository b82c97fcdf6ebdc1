"""Detectors of mmyolo, known by its config files: https://mmyolo.readthedocs.io/en/latest/model_zoo.html

The wheel carries its configs, and with each family a list of published weights. The catalogue is read from these as
text, because importing mmyolo takes seconds; a config itself is Python, and mmengine runs it.
"""

import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal

from zoo import weight_files
from zoo.config import Preprocessing
from zoo.errors import MissingLibrary, MissingWeights, StepError, UnknownName, did_you_mean
from zoo.openmmlab import checkpoint, detector_settings, operators
from zoo.openmmlab.checkpoint import Checkpoint
from zoo.origin import Licences
from zoo.sources import Entry

if TYPE_CHECKING:
    from torch import Tensor, nn

FIELDS = ("config", "weights", "checkpoint", "anchors")
LIBRARIES = ("mmyolo", "mmdet", "mmcv", "mmengine", "torchvision")  # all of the extra, for none works without others

# Folders of configs that are no model of mmyolo: parts of others, deployment, and what needs mmrazor or mmpretrain.
NO_MODELS = {"_base_", "deploy", "razor", "distillation", "cspnext_imagenet_pretrain"}
TEST_TIME_AUGMENTATION = "_tta"
TASK_OF_FOLDER = {"ins_seg": "instance_segmentation", "rotated": "rotated_detection", "pose": "pose_estimation"}
PUBLISHED = re.compile(r"^\s*(?:- )?(Config|Dataset|Weights): (?:configs/)?(\S+)$", re.MULTILINE)

# What mmcv 2.0 and mmdet 3.3 say of themselves with a present-day PyTorch: message, category, module that says it.
WARNINGS: tuple[tuple[str, type[Warning], str], ...] = (
    ("``MultiScaleDeformableAttention``", ImportWarning, r"mmcv\.cnn\.bricks\.transformer"),
    ("In MMCV v1.4.4, we modified the default", UserWarning, r"mmcv\.cnn\.bricks\.hsigmoid"),
    ("Unnecessary conv bias before batch", UserWarning, r"mmcv\.cnn\.bricks\.conv_module"),
    (".torch.cuda.amp.autocast", FutureWarning, r"mm(det|yolo)\."),
    ("torch.meshgrid: in an upcoming release", UserWarning, r"torch\.functional"),
)

LOCK = RLock()  # mmengine keeps the scope of names for the whole process: one thread at a time changes it


def version() -> str:
    """The installed version, such as ``0.6.0``."""
    try:
        return installed_version("mmyolo")
    except PackageNotFoundError as error:
        raise _missing_library("mmyolo") from error


@cache
def catalogue() -> Mapping[str, Entry]:
    """Every config of a model, by its path in the wheel's folder of configs."""
    _require_libraries()
    root, published_weights = _configs(), _published()
    files = (file.relative_to(root) for file in sorted(root.rglob("*.py")))
    return {
        file.as_posix(): Entry(_task(file), tuple(published_weights.get(file.as_posix(), {})))
        for file in files
        if not NO_MODELS & set(file.parts) and not file.stem.endswith(TEST_TIME_AUGMENTATION)
    }


def build(
    model: str,
    *,
    num_classes: int,
    image_size: int | None = None,
    anchors: Sequence[Sequence[tuple[float, float]]] | None = None,
) -> "nn.Module":
    """A detector with fresh weights, in train mode, with its own ``loss`` and ``predict``.

    It maps normalised images (N, 3, H, W), with sides that are multiples of its largest stride, to what its head
    gives for each level. ``image_size`` is what it is to be trained at, in pixels, which weighs some losses; any works
    afterwards. ``anchors`` are widths and heights in pixels by level; raises UnknownName for a detector
    that has no anchors, or has them in other numbers.
    """
    _entry(model)
    with _mmyolo():
        from mmyolo.registry import MODELS

        config = _config(model)
        settings = config.model
        detector_settings.set_classes(settings, num_classes)
        if image_size is not None:
            detector_settings.set_image_size(settings, image_size, max(config.img_scale))
        if anchors is not None:
            detector_settings.set_anchors(settings, anchors, f"mmyolo/{model}")
        detector: Any = MODELS.build(settings)
        if not any(parameter.is_meta for parameter in detector.parameters()):  # those have shapes, and no values
            with _quiet():
                detector.init_weights()
    built: nn.Module = detector.train()
    return built


def published(model: str, weights: str, *, image_size: int | None = None) -> "dict[str, Tensor]":
    """The state_dict of published weights, or of a checkpoint whose path or URL is given in their place.

    The same for images of any size.
    Raises WeightsMismatch, naming the first differences, where it belongs to another model.
    """
    import torch

    state = _checkpoint(model, weights).state
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        detector = build(model, num_classes=len(labels(model, weights)))
    checkpoint.require_fit(state, detector, f"mmyolo/{model}: weights {weights}")
    return state


def labels(model: str, weights: str | None) -> tuple[str, ...]:
    """What the checkpoint's training dataset called its classes, else what the config's does."""
    if weights is None:
        return _dataset_labels(model)
    if not _is_place(weights):
        _url(model, weights)
        return _dataset_labels(model)
    return _checkpoint(model, weights).labels or _dataset_labels(model)


def preprocessing(model: str, weights: str | None) -> Preprocessing:
    """As the config's test pipeline has it, which enlarges to the square that its images are padded to.

    mmyolo reads images as blue, green, red; its statistics are in the order of the model's input.
    """
    _entry(model)
    if weights is not None and not _is_place(weights):
        _url(model, weights)
    with _mmyolo():
        config = _config(model)
        steps = config.test_dataloader.dataset.pipeline
        resize = next(step for step in steps if "Resize" in step.type)
        pixels = config.model.data_preprocessor
    channels: Literal["RGB", "BGR"] = "RGB" if pixels.get("bgr_to_rgb") else "BGR"
    order = slice(None) if channels == "RGB" else slice(None, None, -1)
    mean, std = pixels.get("mean") or [0.0] * 3, pixels.get("std") or [1.0] * 3
    size = max(resize["scale"] if "scale" in resize else (resize["width"], resize["height"]))
    return Preprocessing(
        geometry=_geometry(steps),
        resize=size,
        size=size,
        interpolation=resize.get("interpolation", "bilinear"),
        mean=tuple(value / 255 for value in mean[order]),
        std=tuple(value / 255 for value in std[order]),
        channels=channels,
    )


def _geometry(steps: Sequence[Any]) -> Literal["letterbox", "corner", "stretch"]:
    """Of a test pipeline. Raises StepError for one that fits images in a way that is not known here."""
    kinds = [step.type.rpartition(".")[2] for step in steps]
    resize = next(step for step in steps if "Resize" in step.type)
    if "LetterResize" in kinds:
        return "letterbox"
    if "Pad" in kinds:
        return "corner"  # mmdet pads at the right and below
    if resize.get("keep_ratio") is False:
        return "stretch"
    raise StepError(f"mmyolo: the detector is evaluated by {', '.join(kinds)}, which is not known; name another config")


def licences(model: str, weights: str | None) -> Licences:
    """mmyolo's licence is of its code and of the weights that its authors publish."""
    if weights is None:
        terms = "trained by this build; see its dataset's licence"
    elif _is_place(weights):
        terms = f"of the checkpoint {Path(weights).name}, which states none"
    else:
        terms = f"GPL-3.0 (mmyolo); trained on {weights.upper()}"
    return Licences(code="GPL-3.0", weights=terms)


def _configs() -> Path:
    spec = find_spec("mmyolo")
    if spec is None or spec.origin is None:  # nothing, or a folder that only bears the name
        raise _missing_library("mmyolo")
    return Path(spec.origin).parent / ".mim" / "configs"


@cache
def _published() -> Mapping[str, Mapping[str, str]]:
    """URLs of weights by config and by the dataset that they were trained on."""
    found: dict[str, dict[str, str]] = {}
    for file in sorted(_configs().rglob("metafile.yml")):
        config = dataset = ""
        for field, value in PUBLISHED.findall(file.read_text(encoding="utf-8")):
            if field == "Config":
                config = value
            elif field == "Dataset":
                dataset = value.lower()
            else:
                found.setdefault(config, {})[dataset] = value
    return found


def _task(config: Path) -> str:
    """Most families keep what is not a plain detector in a folder of its own."""
    if config.name.startswith("rtmdet-ins_"):
        return "instance_segmentation"
    return next((TASK_OF_FOLDER[part] for part in config.parts if part in TASK_OF_FOLDER), "detection")


def _entry(model: str) -> Entry:
    known = catalogue()
    if model not in known:
        raise UnknownName(f"mmyolo {version()} has no config '{model}'; {did_you_mean(model, known)}".rstrip("; "))
    return known[model]


def _is_place(weights: str) -> bool:
    """Whether it is a path or URL; names of published weights have no folder."""
    return "/" in weights or Path(weights).suffix in (".pth", ".pt")


def _url(model: str, weights: str) -> str:
    known = _entry(model).weights
    if weights not in known:
        raise UnknownName(f"mmyolo/{model} has no weights '{weights}'; known: {', '.join(known) or 'none'}")
    return _published()[model][weights]


def _checkpoint(model: str, weights: str) -> Checkpoint:
    what = f"mmyolo/{model}: weights {weights}"
    _entry(model)
    if not _is_place(weights):
        file = weight_files.fetched(_url(model, weights), what)
    elif "://" in weights:
        file = weight_files.fetched(weights, what, by_library=False)
    elif not weight_files.is_file(file := Path(os.path.expanduser(weights))):  # noqa: PTH111 - raises for unknown users
        raise MissingWeights(f"{what} are not here; place a checkpoint at {file.absolute()} or name another")
    return checkpoint.read(file, what)


def _dataset_labels(model: str) -> tuple[str, ...]:
    with _mmyolo():
        from mmyolo.registry import DATASETS

        dataset = _config(model).test_dataloader.dataset
        while "dataset" in dataset:
            dataset = dataset.dataset
        described = dataset.get("metainfo") or DATASETS.get(dataset.type).METAINFO
        classes = described.get("classes") or described.get("CLASSES")
    return (classes,) if isinstance(classes, str) else tuple(classes)


@contextmanager
def _mmyolo() -> Iterator[None]:
    """With mmyolo imported and its names found first; for this thread alone, and as it was before afterwards."""
    _require_libraries()
    for message, category, module in WARNINGS:
        warnings.filterwarnings("ignore", message, category, module)
    with LOCK:
        operators.register()
        import mmyolo.datasets
        import mmyolo.models  # noqa: F401
        from mmengine.registry import DefaultScope

        with DefaultScope.overwrite_default_scope("mmyolo"):
            yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the line that mmengine logs for each parameter that it initialises."""
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _config(model: str) -> Any:
    from mmengine.config import Config

    return Config.fromfile(_configs() / model, import_custom_modules=False)


def _require_libraries() -> None:
    for library in LIBRARIES:
        if find_spec(library) is None:
            raise _missing_library(library)


def _missing_library(library: str) -> MissingLibrary:
    return MissingLibrary(f"{library} is not installed; pip install 'lite-zoo[mmyolo]'")
