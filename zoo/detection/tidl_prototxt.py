"""``tidl_meta.prototxt``: what TIDL, Texas Instruments' runtime, needs to decode and suppress by itself.

Its fields are those of TIDL's meta architectures, type 6 (YOLOX, YOLOv5, YOLOv7; docs/tidl_fsg_od_meta_arch.md of
github.com/TexasInstruments/edgeai-tidl-tools) and type 8 (YOLOv8; as TI's fork of mmyolo names them). No file was tried
on a device.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from zoo.detection.heads import JOINT, Head
from zoo.detection.suppression import PREDICTION

if TYPE_CHECKING:
    from zoo.detection.head_description import Boundary

FILE = "tidl_meta.prototxt"
TYPES = {"yolox": 6, "yolov5": 6, "yolov7": 6, "yolov8": 8}
CODES = {
    "yolox": "CODE_TYPE_YOLO_X",
    "yolov5": "CODE_TYPE_YOLO_V5",
    "yolov7": "CODE_TYPE_YOLO_V5",
    "yolov8": "CODE_TYPE_DIST2BBOX",
}
INPUTS = {"box_input": "boxes", "class_input": "classes"}  # of type 8


class Word(str):
    """A value that is written without quotes."""


# A field's name and its value: text, a number, or the fields of a message.
Field = tuple[str, "str | int | float | bool | Word | Sequence[Field]"]


def about(head: Head) -> dict[str, Any]:
    """What detection_head.json says of TIDL: the file and the type to compile with, or why there is no file."""
    family = head.family.name
    if family not in TYPES:
        return {"file": None, "reason": f"TIDL has no meta architecture that decodes the head of {family}"}
    return {"file": FILE, "meta_arch_type": TYPES[family]}


def write(found: "Boundary", size: int, outputs: Iterable[str]) -> str | None:
    """The file's text for images of ``size`` pixels; none where TIDL does not know the family."""
    family = found.head.family.name
    if family not in TYPES:
        return None
    placed: list[Field] = [
        ("name", family),
        ("in_width", size),
        ("in_height", size),
        *(("output", name) for name in outputs),
        ("detection_output_param", _suppression(found.head)),
    ]
    if TYPES[family] == 6:
        message: Field = ("tidl_yolo", [*_levels(found), *placed, ("framework", "MMYOLO")])
    else:
        names = [(field, level[what]) for field, what in INPUTS.items() for level in found.levels]
        message = ("caffe_ssd", [*names, *placed, ("score_converter", Word("SIGMOID"))])
    return "\n".join(_lines([("name", family), message])) + "\n"


def _levels(found: "Boundary") -> Iterator[Field]:
    """A level's tensor and its anchors; YOLOX has none, and its stride in their place."""
    head = found.head
    for level, stride in enumerate(head.strides):
        name = found.joined[level] if found.joined else found.levels[level][JOINT]
        anchors = head.anchors[level] if head.anchors else ((float(stride), float(stride)),)
        sides = [(f"anchor_{side}", anchor[i]) for i, side in enumerate(("width", "height")) for anchor in anchors]
        yield "yolo_param", [("input", name), *sides]


def _suppression(head: Head) -> list[Field]:
    return [
        ("num_classes", head.num_classes),
        ("share_location", True),
        ("background_label_id", -1),
        ("nms_param", [("nms_threshold", PREDICTION.iou), ("top_k", PREDICTION.candidates)]),
        ("code_type", Word(CODES[head.family.name])),
        ("keep_top_k", PREDICTION.most),
        ("confidence_threshold", PREDICTION.score),
    ]


def _lines(fields: Iterable[Field], indent: str = "") -> Iterator[str]:
    """Protocol buffers' text format."""
    for name, value in fields:
        if isinstance(value, list | tuple):
            yield f"{indent}{name} {{"
            yield from _lines(value, indent + "  ")
            yield f"{indent}}}"
        elif isinstance(value, Word | bool):
            yield f"{indent}{name}: {str(value).lower() if isinstance(value, bool) else value}"
        elif isinstance(value, str):
            yield f'{indent}{name}: "{value}"'
        else:
            yield f"{indent}{name}: {value}"
