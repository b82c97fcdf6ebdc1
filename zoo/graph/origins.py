"""Which torch layer a node comes from, by what PyTorch's two exporters write beside it.

The newer one (torch.onnx.export with dynamo=True) leaves the scopes of a node, outermost first and the operator last,
as Python lists in the node's metadata. The older one puts them into the node's name: /features/features.0/Conv.
"""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass

import onnx

CLASSES, SCOPES = "pkg.torch.onnx.class_hierarchy", "pkg.torch.onnx.name_scopes"
LONGEST = 10_000  # characters of metadata that are parsed
_OPERATOR = re.compile(r"(?:aten|torchvision|prims)\.(\w+)(?:\.\w+)?")
_CONVOLUTIONS = {"Conv": "conv", "ConvTranspose": "conv_transpose"}


@dataclass(frozen=True)
class Origin:
    """A torch layer by its dotted path, "" for the model itself, and an ATen operator; None where not known."""

    module: str | None = None
    torch_op: str | None = None


def origin(node: onnx.NodeProto, parameters: Sequence[str], rank: int | None, *, torch_names: bool) -> Origin:
    """Where a node comes from. ``parameters`` names the initializers that it reads, ``rank`` is that of the first.

    ``torch_names``: PyTorch wrote the file, so that names such as /features/features.0/Conv are paths.
    """
    metadata = {entry.key: entry.value for entry in node.metadata_props}
    scopes, classes = _texts(metadata.get(SCOPES)), _texts(metadata.get(CLASSES))
    if not scopes:
        named = _from_name(node) if torch_names else None
        return Origin(_owner(parameters) if torch_names and named is None else named)
    operator = _OPERATOR.fullmatch(classes[-1]) if classes else None
    torch_op = operator[1] if operator else None
    module = scopes[-2] if len(scopes) > 1 else ""
    # A normalisation that was folded into the convolution before it gives the convolution its name.
    if node.op_type in _CONVOLUTIONS and torch_op and "batch_norm" in torch_op:
        module = _owner(parameters) or module
        torch_op = f"{_CONVOLUTIONS[node.op_type]}{rank - 2}d" if rank else None
    return Origin(module, torch_op)


def _owner(parameters: Sequence[str]) -> str | None:
    """The layer that parameters belong to: exporters name initializers as the state_dict does."""
    for wanted in ("weight", "bias"):
        for owner, _, kind in (name.rpartition(".") for name in parameters):
            if owner and kind == wanted:
                return owner
    return None


def _texts(written: str | None) -> list[str]:
    """A list of texts as Python writes it; empty where it is something else."""
    if not isinstance(written, str) or len(written) > LONGEST:
        return []
    try:
        value = ast.literal_eval(written)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    return value if isinstance(value, list) and all(isinstance(text, str) for text in value) else []


def _from_name(node: onnx.NodeProto) -> str | None:
    """The path in a name: a scope either continues the one before it or begins with it, dotted."""
    name = node.name[node.name.rfind("//") + 1 :]  # without the names of the bodies that it is in
    start, *scopes = name.split("/")
    if start or not scopes or not re.fullmatch(rf"{re.escape(node.op_type)}(_\d+)?", scopes[-1]):
        return None
    path: list[str] = []
    for scope in scopes[:-1]:
        if path and scope.startswith(path[-1] + "."):
            path[-1] = scope
        else:
            path.append(scope)
    return ".".join(path)
