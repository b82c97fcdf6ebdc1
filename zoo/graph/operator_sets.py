"""Which version of which operators a model is written in, and its local functions put in the place of their calls."""

from collections import Counter
from collections.abc import Iterable, Iterator

import onnx
from onnx import inliner

from zoo.errors import UnreadableModel
from zoo.graph.skeleton import bodies

LARGEST = 1_000_000  # nodes: functions that call each other twice double them at every step
_LAST_WITHOUT_OPSETS = 2  # IR version; such models are in opset 1


def opsets(model: onnx.ModelProto, place: str) -> tuple[dict[str, int], tuple[str, ...]]:
    """Versions by domain, "" for ONNX's own, and notes. Raises UnreadableModel where they contradict each other."""
    found: dict[str, int] = {}
    for entry in model.opset_import:
        domain = own(entry.domain)
        if entry.version < 1 or found.get(domain, entry.version) != entry.version:
            versions = sorted({other.version for other in model.opset_import if own(other.domain) == domain})
            raise UnreadableModel(
                f"{place}: the model imports opset {' and '.join(map(str, versions))} of {_called(domain)}; "
                "it must be one number above 0"
            )
        found[domain] = entry.version
    for entry in (each for function in model.functions for each in function.opset_import if each.version > 0):
        found.setdefault(own(entry.domain), entry.version)
    notes = []
    used = _domains(model)
    if "" in used and "" not in found:
        if model.ir_version > _LAST_WITHOUT_OPSETS:
            raise UnreadableModel(f"{place}: the model does not say which opset of ONNX's operators it is written in")
        found[""] = 1
    latest = onnx.defs.onnx_opset_version()
    if found.get("", 0) > latest:
        notes.append(
            f"The model is in ONNX opset {found['']}, the installed onnx knows up to {latest}: its shapes may be wrong."
        )
    for domain in sorted(used - found.keys()):
        notes.append(f"The model uses operators of {_called(domain)} and does not import their opset.")
    return found, tuple(notes)


def own(domain: str) -> str:
    """The domain, with one of the two names of ONNX's own."""
    return "" if domain == "ai.onnx" else domain


def inline(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model with the bodies of its functions in the place of their calls, and notes on calls that remain."""
    if not model.functions:
        return model, ()
    if (count := _written_out(model)) > LARGEST:
        return model, (f"The model's functions are not looked into: written out they have {count:,} nodes.",)
    try:
        inlined = inliner.inline_local_functions(model)
    # The inliner is a C++ library that raises errors of every kind; a call that stays is a node of a custom domain.
    except Exception as error:
        return model, (f"The model's functions cannot be inlined: {' '.join(str(error).split())[:200]}",)
    local = {(own(function.domain), function.name) for function in model.functions}
    left = sorted({f"{node.domain}.{node.op_type}" for node in _nodes(inlined.graph) if _key(node) in local})
    if left:
        return inlined, (f"Functions in another opset than the model's are not looked into: {', '.join(left)}.",)
    return inlined, ()


def _written_out(model: onnx.ModelProto) -> int:
    """How many nodes the model has once every call is replaced; a function that calls itself counts as one node."""
    calls = {
        (own(function.domain), function.name): Counter(_key(node) for node in _all_nodes(function.node))
        for function in model.functions
    }
    sizes: dict[tuple[str, str], int] = {}
    for _ in calls:  # in each round at least one whose calls are all known, but for those that call themselves
        ready = [key for key in calls.keys() - sizes.keys() if calls[key].keys() & calls.keys() <= sizes.keys()]
        if not ready:
            break
        sizes |= {key: sum(sizes.get(each, 1) * count for each, count in calls[key].items()) for key in ready}
    return sum(sizes.get(_key(node), 1) for node in _nodes(model.graph))


def _key(node: onnx.NodeProto) -> tuple[str, str]:
    return own(node.domain), node.op_type


def _domains(model: onnx.ModelProto) -> set[str]:
    functions: Iterable[onnx.NodeProto] = (node for function in model.functions for node in function.node)
    return {own(node.domain) for node in (*_nodes(model.graph), *functions)}


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    yield from _all_nodes(graph.node)


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for _, body in bodies(node):
            yield from _all_nodes(body.node)


def _called(domain: str) -> str:
    return f"the domain '{domain}'" if domain else "ONNX's own operators"
