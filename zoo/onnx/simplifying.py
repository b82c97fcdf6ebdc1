"""onnxslim, believed only where the outputs stay equal."""

import logging
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import Tensor

from zoo.errors import StepError
from zoo.onnx.exporting import check
from zoo.onnx.session import Session


@dataclass(frozen=True)
class Simplified:
    """The model to go on with, simplified or not, and why."""

    model: onnx.ModelProto
    simplified: bool
    reason: str


def simplify(exported: onnx.ModelProto, images: Tensor) -> Simplified:
    """onnxslim's version where it has fewer nodes and gives bit for bit the same outputs for ``images``."""
    try:
        slim = _slim(exported)
        check(slim)
        before, after = (Session(model).run_each(images) for model in (exported, slim))
    # onnxslim and onnxruntime raise errors of every kind on graphs they do not know; the model is good without them.
    except Exception as error:
        logging.getLogger(__name__).exception("onnxslim failed")
        fact = " ".join(str(error).split())[:200]
        return Simplified(exported, False, f"onnxslim failed: {type(error).__name__}: {fact}")
    nodes = (len(exported.graph.node), len(slim.graph.node))
    if nodes[1] >= nodes[0]:
        return Simplified(exported, False, f"nothing to simplify in {nodes[0]} nodes")
    pairs = list(zip(before, after, strict=True))
    if not all(torch.equal(was, now) for was, now in pairs):
        largest = max(float((was.double() - now.double()).abs().max()) for was, now in pairs if was.numel())
        return Simplified(exported, False, f"onnxslim changes the outputs by up to {largest:.3g}")
    fact = f"{nodes[0]} nodes became {nodes[1]}, outputs bit for bit equal on {len(images)} images"
    return Simplified(slim, True, fact)


def _slim(exported: onnx.ModelProto) -> onnx.ModelProto:
    import onnxslim

    copy = onnx.ModelProto()
    copy.CopyFrom(exported)
    slim = onnxslim.slim(copy)
    if not isinstance(slim, onnx.ModelProto):
        raise StepError("onnxslim returned no model")
    _restore_metadata(exported, slim)
    return slim


def _restore_metadata(exported: onnx.ModelProto, slim: onnx.ModelProto) -> None:
    """onnxslim drops the nodes' metadata; the modules' paths are what a reader of the graph finds a layer by.

    A node that it made takes those of the node whose value it makes now, else of one that reads what it makes.
    """
    by_name = {node.name: node.metadata_props for node in exported.graph.node}
    by_value = {value: node.metadata_props for node in exported.graph.node for value in node.output}
    by_reader: dict[str, Any] = {}
    for node in reversed(slim.graph.node):
        known = (by_value.get(value) or by_reader.get(value) for value in node.output)
        metadata = list(by_name.get(node.name) or next(filter(None, known), ()))
        del node.metadata_props[:]
        node.metadata_props.extend(metadata)
        by_reader |= dict.fromkeys(node.input, metadata)
