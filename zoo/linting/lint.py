"""Lint: what of a model a target accelerates, what not and why, and which surgery rule would remove it."""

from zoo.graph.view import Graph, Node
from zoo.linting.complaints import Complaint
from zoo.linting.cures import Cures, cures
from zoo.linting.devices import chosen_devices, has_accelerator
from zoo.linting.judging import Judgement, judge
from zoo.linting.report import Finding, Report, Verdict
from zoo.linting.summing import judged_nodes, summarised
from zoo.linting.whole_model import about_model, no_accelerator
from zoo.targets.target import Target


def lint(
    graph: Graph,
    target: Target,
    *,
    model: str,
    target_name: str,
    device: str = "",
    host: frozenset[str] = frozenset(),
) -> Report:
    """Judge every node of a graph.

    ``device`` is one of the target's, by name or alias; "" stands for all that have an accelerator: what any refuses is
    refused. ``host`` names the values behind which the host takes over. Raises UnknownName where there is no such
    device or value.
    """
    devices = chosen_devices(target, target_name, device)
    judged = judge(graph, target, devices, host, model)
    runs = all(has_accelerator(target, each) for each in devices)
    if not runs:
        judged = {node: _on_the_host(judgement) for node, judgement in judged.items()}
    nodes = judged_nodes(graph, judged)
    summary = summarised(nodes, target)
    whole = about_model(graph, target, judged, summary) if runs else [no_accelerator(devices[0])]
    said = [(node, complaint) for node in graph.nodes for complaint in judged[id(node)].complaints]
    # A model that needs no surgery is spared torch's import.
    refused = any(judged[id(node)].verdict is Verdict.REJECTED for node, _ in said)
    rules = cures(graph, said, target, target_name, device) if refused else {}
    return Report(
        model=model,
        target=target_name,
        device=devices[0] if device else "",
        nodes=nodes,
        findings=(*whole, *(_finding(*each, rules, frozenset(devices)) for each in said)),
        summary=summary,
        unchecked=target.unchecked,
    )


def _on_the_host(judgement: Judgement) -> Judgement:
    off = judgement.verdict in (Verdict.FREE, Verdict.HOST)
    return judgement if off else Judgement(Verdict.REJECTED)


def _finding(node: Node, complaint: Complaint, rules: Cures, devices: frozenset[str]) -> Finding:
    where = "" if complaint.devices == devices else f" on {', '.join(sorted(complaint.devices))}"
    return Finding(
        severity="warning" if complaint.open else complaint.severity,
        node=node.name,
        op=complaint.op,
        module=node.module or "",
        limit=complaint.limit,
        fact=complaint.fact + where,
        rule=rules.get((id(node), complaint.op, complaint.limit), ""),
    )
