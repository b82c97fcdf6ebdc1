"""The models that surgery is tried on: torchvision's, the smallest of each timm family, each family of mmyolo.

.venv/bin/python benchmarks/surgery_models.py    # makes benchmarks/timm_smallest.json anew, for another timm
"""

import importlib
import json
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path

import torch
from torch import nn

TABLE = Path(__file__).with_name("timm_smallest.json")
LIBRARIES = ("torchvision", "timm", "mmyolo")
# Segmentation models and detectors take any size and have no own: a small multiple of their strides.
ANY_SIZE = 256

# The smallest config of each family, and of each of its parts that has layers of its own; what needs another library
# (rotated boxes, poses) is left out.
MMYOLO = (
    "ppyoloe/ppyoloe_plus_s_fast_8xb8-80e_coco",
    "rtmdet/rtmdet-ins_s_syncbn_fast_8xb32-300e_coco",
    "rtmdet/rtmdet_tiny_syncbn_fast_8xb32-300e_coco",
    "yolov5/ins_seg/yolov5_ins_n-v61_syncbn_fast_8xb16-300e_coco_instance",
    "yolov5/yolov5_n-p6-v62_syncbn_fast_8xb16-300e_coco",
    "yolov5/yolov5_n-v61_syncbn_fast_8xb16-300e_coco",
    "yolov5/yolov5u/yolov5u_n_syncbn_fast_8xb16-300e_coco",
    "yolov6/yolov6_n_syncbn_fast_8xb32-400e_coco",
    "yolov6/yolov6_v3_n_syncbn_fast_8xb32-300e_coco",
    "yolov7/yolov7_tiny_syncbn_fast_8x16b-300e_coco",
    "yolov8/yolov8_n_syncbn_fast_8xb16-500e_coco",
    "yolox/yolox_nano_fast_8xb8-300e_coco",
)

# Small models of different kinds; together they show every way in which surgery has gone wrong.
CI = {
    "torchvision": (
        *("alexnet", "googlenet", "lraspp_mobilenet_v3_large", "mnasnet0_5", "mobilenet_v3_small", "regnet_y_400mf"),
        "shufflenet_v2_x0_5",
    ),
    "timm": (
        *("convit_tiny", "crossvit_tiny_240", "cs3darknet_focus_s", "deit_tiny_patch16_224", "edgenext_xx_small"),
        *("efficientvit_b0", "efficientvit_m0", "ese_vovnet19b_slim_dw", "fasternet_t0", "fastvit_t8", "ghostnet_050"),
        *("inception_next_atto", "legacy_seresnet18", "levit_128s", "mobilenetv3_small_050", "mobilevit_xxs"),
        *("pvt_v2_b0", "repghostnet_050"),
    ),
    "mmyolo": (
        *("ppyoloe/ppyoloe_plus_s_fast_8xb8-80e_coco", "rtmdet/rtmdet_tiny_syncbn_fast_8xb32-300e_coco"),
        *("yolov5/yolov5_n-v61_syncbn_fast_8xb16-300e_coco", "yolov8/yolov8_n_syncbn_fast_8xb16-500e_coco"),
        "yolox/yolox_nano_fast_8xb8-300e_coco",
    ),
}


def names(library: str) -> list[str]:
    """The models of one library, sorted."""
    if library == "torchvision":
        from torchvision import models

        return sorted([*models.list_models(module=models), *models.list_models(module=models.segmentation)])
    if library == "timm":
        return sorted(json.loads(TABLE.read_text())["smallest"].values())
    return sorted(MMYOLO)


def chosen(library: str | None, only: Sequence[str] | None, subset: str | None) -> list[tuple[str, str]]:
    """(library, model) of what was asked for; ``only`` are names or patterns such as "vit_*"."""
    pairs = [(each, name) for each in LIBRARIES if library in (None, each) for name in names(each)]
    if subset:
        pairs = [(each, name) for each, name in pairs if name in CI[each]]
    return [pair for pair in pairs if only is None or any(fnmatch(pair[1], wanted) for wanted in only)]


def build(library: str, name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    """A model with random weights, in eval mode, and its default input shape (C, H, W)."""
    model, shape = _BUILDERS[library](name)
    return model.eval(), shape


def _torchvision(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    from torchvision import models

    settings = {"weights_backbone": None} if name in models.list_models(module=models.segmentation) else {}
    if name in {"googlenet", "inception_v3"}:
        settings["init_weights"] = False  # the slow truncated normal
    model = models.get_model(name, weights=None, **settings)
    if "weights_backbone" in settings:
        return model, (3, ANY_SIZE, ANY_SIZE)
    crops = [weights.transforms().crop_size for weights in models.get_model_weights(name)]
    side = getattr(model, "image_size", None) or crops[0][0]
    return model, (3, side, side)


def _timm(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    import timm

    model = timm.create_model(name)
    return model, tuple(model.pretrained_cfg["input_size"])  # type: ignore[return-value]


def _mmyolo(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    from zoo.openmmlab import operators

    operators.register()
    from mmengine.config import Config
    from mmyolo.registry import MODELS
    from mmyolo.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    folder = Path(importlib.import_module("mmyolo").__file__ or "").parent / ".mim" / "configs"
    return MODELS.build(Config.fromfile(folder / f"{name}.py").model), (3, ANY_SIZE, ANY_SIZE)


_BUILDERS: dict[str, Callable[[str], tuple[nn.Module, tuple[int, int, int]]]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "mmyolo": _mmyolo,
}


def smallest_of_timm() -> dict[str, str]:
    """The model with the fewest parameters of each module of timm.models, built without memory for its weights.

    Models that timm has only for its own tests are passed over.
    """
    import timm

    found = {}
    for family in timm.list_modules():
        models = timm.list_models(module=family, exclude_filters="test_*")
        sizes = {name: _parameters(name) for name in models}
        if sizes:
            found[family] = min(sizes, key=lambda name: (sizes[name], name))
    return found


def _parameters(name: str) -> int:
    import timm

    with torch.device("meta"):
        return sum(parameter.numel() for parameter in timm.create_model(name).parameters())


if __name__ == "__main__":
    from importlib.metadata import version

    table = {"timm": version("timm"), "smallest": smallest_of_timm()}
    TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
