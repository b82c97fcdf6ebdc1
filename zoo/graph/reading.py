"""From any ONNX file to its graph as a linter sees it; what the file does not tell is a note, not a failure.

Weights are not loaded: those in other files are only looked for, those in the file are not copied.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import onnx

from zoo.graph import conforming, model_file, operator_sets, well_formed
from zoo.graph.assembling import Findings
from zoo.graph.naming import settle
from zoo.graph.one_image import of_one_image
from zoo.graph.shapes import know
from zoo.graph.skeleton import Skeleton, nbytes
from zoo.graph.steps import Step, graphs
from zoo.graph.stripping import strip
from zoo.graph.view import Graph

IN_MEMORY = "the model"  # the place that errors name where there is no file


def read(source: Path | onnx.ModelProto, *, one_image: bool = True) -> Graph:
    """The graph of an ONNX file, or of a model in memory, which is not changed.

    Local functions are put in the place of their calls. What is in the bodies of If, Loop and Scan stands in the list
    before the node that they belong to. With ``one_image`` a dynamic batch is one, as a device's compiler needs a size.
    Raises UnreadableModel.
    """
    model, place = (model_file.load(source), str(source)) if isinstance(source, Path) else (source, IN_MEMORY)
    well_formed.check(model, place)
    stripped = strip(model, source.parent if isinstance(source, Path) else None, place)
    opsets, of_opsets = operator_sets.opsets(stripped.model, place)
    inlined, of_functions = operator_sets.inline(stripped.model)
    of_names = settle(inlined.graph, place)
    conforming.check(inlined.graph, opsets, place)
    single = of_one_image(inlined) if one_image else None
    skeleton = Skeleton(single or inlined, stripped.held)
    known, of_shapes = know(skeleton, opsets)
    found = Findings(skeleton, opsets, known)
    return Graph(
        nodes=found.nodes,
        inputs=found.inputs,
        outputs=found.outputs,
        opsets=opsets,
        ir_version=model.ir_version,
        initializer_bytes=_initializer_bytes(inlined.graph, place),
        notes=(
            *(*of_opsets, *of_functions, *of_names),
            *_notes(skeleton, found.listed, dynamic_batch=single is not None),
            *of_shapes,
        ),
    )


def _notes(skeleton: Skeleton, listed: Iterable[Step], *, dynamic_batch: bool) -> Iterable[str]:
    if absent := sum(held is None for held in skeleton.held):
        yield f"The data of {absent} tensors are in other files, which a model in memory does not lead to."
    if dynamic_batch:
        yield "The batch is dynamic; the model is looked at as one of a single image."
    for name, count in Counter(step.within for step in listed if step.within).items():
        yield f"'{name}' holds {count} nodes; they are listed and counted once, however often they run."


def _initializer_bytes(graph: onnx.GraphProto, place: str) -> int:
    total = 0
    for each in graphs(graph):
        total += sum(nbytes(tensor, place) for tensor in each.initializer)
        total += sum(nbytes(sparse.values, place) + nbytes(sparse.indices, place) for sparse in each.sparse_initializer)
    return total
