"""``detection_head.json``: for runtimes that decode and suppress by themselves, all that they need to know.

Each level's tensors, as the file names them, are what the head's last convolutions give, (N, channels, H, W).
"""

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from zoo.detection import tidl_prototxt
from zoo.detection.heads import JOINT, Head, convolutions, head_of
from zoo.detection.suppression import PREDICTION
from zoo.errors import StepError
from zoo.origin import Origin

if TYPE_CHECKING:
    import onnx

FILE = "detection_head.json"
FORMAT = 1
POSITION = "X = (column + offset) * stride, Y = (row + offset) * stride"
FORMULAS = {
    "centre_and_log_size": f"{POSITION}; of numbers a, b, c, d: centre X + a * stride, Y + b * stride, "
    "width exp(c) * stride, height exp(d) * stride",
    "anchors": f"{POSITION}; of numbers a, b, c, d after a sigmoid: centre X + (2 * a - 1) * stride, "
    "Y + (2 * b - 1) * stride, width (2 * c)^2 * the anchor's, height (2 * d)^2 * the anchor's",
    "distances": f"{POSITION}; of distances a, b, c, d: x1 = X - a * stride, y1 = Y - b * stride, "
    "x2 = X + c * stride, y2 = Y + d * stride",
}
BINS = "; a distance is the sum of k * p[k], p the softmax over its bins, k from 0; bins of one distance are adjacent"
ANCHOR_BY_ANCHOR = "anchor by anchor: 4 of the box, 1 of objectness, then the classes"


@dataclass(frozen=True)
class Boundary:
    """A head and, in one exported model, the tensors at its end."""

    head: Head
    levels: tuple[dict[str, str], ...]  # names by what they predict
    joined: tuple[str, ...]  # YOLOX: each level's predictions as one tensor, with probabilities

    @property
    def tensors(self) -> frozenset[str]:
        """All that the head's last convolutions make."""
        return frozenset(name for level in self.levels for name in level.values())


def boundary(network: nn.Module, exported: "onnx.ModelProto") -> Boundary:
    """The tensors where the network, as it was exported, ends and decoding begins.

    Raises StepError where one of them is not in the exported model.
    """
    head = head_of(network)
    made = dict(_last_outputs(exported))
    levels = range(len(head.strides))
    return Boundary(
        head,
        tuple(
            {what: _named(made, f"network.{path}") for what, path in convolutions(network, level).items()}
            for level in levels
        ),
        tuple(_named(made, f"decoder.joined.{level}") for level in levels if head.family.name == "yolox"),
    )


def describe(found: Boundary, origin: Origin, exported: "onnx.ModelProto") -> dict[str, Any]:
    """The content of the file, as JSON values.

    ``boxes`` say how numbers become corners in pixels of the input, ``scores`` how they become probabilities;
    ``keep_in_16_bit`` are the head's tensors: nothing after them makes up for rounding to 8 bits.
    """
    head, size = found.head, origin.preprocessing.size
    joint = JOINT in found.levels[0]
    return {
        "format": FORMAT,
        "family": head.family.name,
        "input": {"name": exported.graph.input[0].name, "size": [size, size]},
        "outputs": [output.name for output in exported.graph.output],
        "labels": list(origin.labels),
        "levels": [
            {
                "stride": stride,
                "cells": [cells, cells],
                "tensors": tensors,
                **({"anchors": [list(anchor) for anchor in head.anchors[level]]} if head.anchors else {}),
            }
            for level, (stride, cells, tensors) in enumerate(
                zip(head.strides, head.cells(size), found.levels, strict=True)
            )
        ],
        **({"channels": ANCHOR_BY_ANCHOR} if joint else {}),
        "boxes": {
            "encoding": head.family.encoding,
            "offset": head.offset,
            "bins": head.bins,
            "reg_max": head.reg_max,
            "formula": FORMULAS[head.family.encoding] + (BINS if head.bins else ""),
        },
        "scores": {
            "encoding": "sigmoid",
            "objectness": head.family.objectness,
            "formula": "sigmoid(class)" + (" * sigmoid(objectness)" if head.family.objectness else ""),
        },
        "nms": {
            "score_threshold": PREDICTION.score,
            "iou_threshold": PREDICTION.iou,
            "most": PREDICTION.most,
            "candidates": PREDICTION.candidates,
            "within_classes": True,
        },
        "keep_in_16_bit": [name for level in found.levels for name in level.values()],
        "tidl": tidl_prototxt.about(head),
    }


def as_text(content: dict[str, Any]) -> str:
    """The file's text."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _last_outputs(exported: "onnx.ModelProto") -> Iterator[tuple[str, str]]:
    """Paths of modules, and the values that their nodes make, in the graph's order."""
    for node in exported.graph.node:
        scopes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "[]")
        for scope in ast.literal_eval(scopes)[:-1]:  # the last one is the operator's own name
            yield scope.removeprefix("decoded."), node.output[0]  # so they start where suppression follows decoding


def _named(made: dict[str, str], path: str) -> str:
    if path not in made:
        raise StepError(f"{FILE}: no node of the ONNX model comes from '{path}'; set export.simplify to false")
    return made[path]
