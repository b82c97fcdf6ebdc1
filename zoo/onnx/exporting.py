"""From a PyTorch model to an ONNX model that holds no trace of the machine it was made on."""

from collections.abc import Iterable, Sequence
from typing import Any

import onnx
import torch
from onnx.checker import ValidationError
from torch import Tensor, nn

from zoo.config import MAX_OPSET, MIN_OPSET
from zoo.errors import StepError
from zoo.onnx import conventional, opsets
from zoo.onnx.global_pools import write_global_pools

OLDEST_WRITTEN = 18  # by PyTorch's exporter; zoo.onnx.opsets leads from there to older ones
INPUT = "input"
KEPT_NODE_METADATA = ("pkg.torch.onnx.class_hierarchy", "pkg.torch.onnx.name_scopes")


def export(
    model: nn.Module,
    image: Tensor,
    *,
    opset: int,
    ir_version: int | None = None,
    dynamic_batch: bool = False,
    outputs: Sequence[str] = ("output",),
) -> onnx.ModelProto:
    """The model as ONNX, one input ``input`` and the named outputs, from one image of shape (1, C, H, W).

    Nodes keep the path of the module they come from; stack traces and file paths are removed, so that the same model
    gives the same bytes wherever it is exported. ``ir_version`` is the latest of the file format that its reader knows.
    Raises StepError where the model cannot be exported to ``opset``.
    """
    # A batch of one would be taken for a constant by torch.export even where the dimension is declared dynamic.
    example = (image.repeat(2, 1, 1, 1) if dynamic_batch else image).contiguous()
    model.to(memory_format=torch.contiguous_format)  # else global pools are written as a gather over the memory
    shapes = ({0: torch.export.Dim("batch")},) if dynamic_batch else None
    try:
        program = torch.onnx.export(
            model.eval(),
            (example,),
            dynamo=True,
            opset_version=max(opset, OLDEST_WRITTEN),
            input_names=[INPUT],
            output_names=list(outputs),
            dynamic_shapes=shapes,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        cause = _first_line(error.__cause__ or error)
        raise StepError(f"the model cannot be exported to ONNX: {cause}; the log has the whole report") from error
    assert program is not None  # as documented for dynamo=True
    exported: onnx.ModelProto = program.model_proto
    write_global_pools(exported)
    exported = _in_opset(conventional.write(exported), opset)
    _set_ir_version(exported, ir_version)
    remove_traces(exported)
    check(exported)
    return exported


def _in_opset(exported: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    written = opsets.opset_of(exported)
    if opset < written == OLDEST_WRITTEN:
        return opsets.lower(exported, opset)
    if opset != written:
        raise StepError(
            f"export.opset: the model cannot be written in ONNX opset {opset}, PyTorch's exporter stayed at {written}; "
            f"set export.opset to {written}, or to another from {MIN_OPSET} to {MAX_OPSET}"
        )
    return exported


def _set_ir_version(exported: onnx.ModelProto, latest: int | None) -> None:
    """The oldest of the opset, which most importers read: of what is used it lacks only the nodes' metadata, which
    they pass over.
    """
    oldest = opsets.oldest_ir_version(opsets.opset_of(exported))
    if latest is not None and latest < oldest:
        raise StepError(
            f"the target reads ONNX's IR up to version {latest}, opset {opsets.opset_of(exported)} needs {oldest}; "
            "set export.opset to an older one"
        )
    exported.ir_version = oldest


def check(model: onnx.ModelProto) -> None:
    """Raises StepError where the model is not valid ONNX."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (ValidationError, onnx.shape_inference.InferenceError) as error:
        raise StepError(f"the exported ONNX model is not valid: {_first_line(error)}; the log has the whole") from error


def remove_traces(model: onnx.ModelProto) -> None:
    """Remove every doc string and all metadata but the module paths of the nodes."""
    model.doc_string = ""
    for graph in (model.graph, *model.functions):
        del graph.metadata_props[:]
        graph.doc_string = ""
        for node in graph.node:
            node.doc_string = ""
            _keep(node.metadata_props, KEPT_NODE_METADATA)
        for value in graph.value_info:
            value.doc_string = ""
            del value.metadata_props[:]
    for entry in (*model.graph.initializer, *model.graph.input, *model.graph.output):
        entry.doc_string = ""
        del entry.metadata_props[:]


def _keep(properties: Any, keys: Iterable[str]) -> None:
    kept = sorted((entry.key, entry.value) for entry in properties if entry.key in keys)
    del properties[:]
    for key, value in kept:
        properties.add(key=key, value=value)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
