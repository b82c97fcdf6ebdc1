"""What a target has against a model as a whole."""

from collections.abc import Iterator

from zoo.graph.view import Graph, Value
from zoo.linting.judging import Judgements
from zoo.linting.report import Finding, Summary, Verdict
from zoo.linting.wording import counted
from zoo.targets.limit import Severity
from zoo.targets.target import Target


def about_model(graph: Graph, target: Target, judged: Judgements, summary: Summary) -> Iterator[Finding]:
    """Opset and IR version, the number of subgraphs, and what the file leaves open."""
    yield from _versions(graph, target)
    most = summary.max_subgraphs
    if most is not None and len(summary.subgraphs) > most:
        fact = f"breaks into {len(summary.subgraphs)} accelerated subgraphs, of which the runtime takes {most}"
        yield finding("error", "subgraphs", fact)
    yield from _shapes(graph, judged)
    yield from (finding("warning", "graph", note) for note in graph.notes)


def no_accelerator(device: str) -> Finding:
    """What is said of a device that has none."""
    said = f"{device} has no accelerator" if device else "no device has an accelerator"
    return finding("error", "device", f"{said}: all of the model runs on the host")


def finding(severity: Severity, limit: str, fact: str) -> Finding:
    """A finding about the model as a whole."""
    return Finding(severity, node="", op="", module="", limit=limit, fact=fact)


def _versions(graph: Graph, target: Target) -> Iterator[Finding]:
    opset, wanted = graph.opsets.get(""), target.opset
    again = f"export it in opset {wanted.export}"
    if opset is not None and opset > wanted.max:
        yield finding(wanted.severity, "opset", f"opset {opset}, at most {wanted.max}: {again}")
    elif opset is not None and wanted.validated and opset not in wanted.validated:
        tried = ", ".join(map(str, wanted.validated))
        yield finding("warning", "opset", f"opset {opset}, validated are {tried}: {again}")
    if target.ir_version is not None and graph.ir_version > target.ir_version:
        fact = f"IR version {graph.ir_version}, at most {target.ir_version}: {again}, with an onnx of that time"
        yield finding("error", "ir_version", fact)


def _shapes(graph: Graph, judged: Judgements) -> Iterator[Finding]:
    """One finding where shapes that are not fixed leave verdicts or costs open."""
    running = [node for node in graph.nodes if judged[id(node)].verdict not in (Verdict.FREE, Verdict.HOST)]
    undecided = sum(any(complaint.open for complaint in judged[id(node)].complaints) for node in running)
    uncounted = sum(node.macs is None for node in running)
    if not undecided and not uncounted:
        return
    changing = [_described(value) for value in graph.inputs if not _is_fixed(value)]
    why = f"{', '.join(changing)}: export it for fixed shapes" if changing else "shapes inside of it are not known"
    consequences = {
        f"{counted(undecided, 'node')} cannot be judged in full": undecided,
        f"the multiply-accumulates of {counted(uncounted, 'node')} are not counted": uncounted,
    }
    left = " and ".join(text for text, count in consequences.items() if count)
    yield finding("warning", "shapes", f"{left}; {why}")


def _is_fixed(value: Value) -> bool:
    return value.dims is not None and all(isinstance(size, int) for size in value.dims)


def _described(value: Value) -> str:
    if value.dims is None:
        return f"input {value.name} has no shape"
    sizes = ", ".join("?" if size is None else str(size) for size in value.dims)
    return f"input {value.name} is ({sizes})"
