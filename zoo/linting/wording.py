"""How reports say things: names from untrusted files, shares, amounts, places, and the verdict in one line."""

from collections import Counter

from zoo.linting.report import Finding, Judged, Report, Verdict

MEANS = {
    "error": "not accelerated, or not imported",
    "warning": "not validated by the device's maker, or the file does not tell",
    "cost": "accelerated, but slow or less exact",
}
WHOLE = "the whole model"


def safe(text: str, most: int = 100) -> str:
    """Text of a model's file on one line: nothing that a terminal obeys, its middle left out where it is long."""
    printable = text if text.isprintable() else ascii(text)[1:-1]
    if len(printable) <= most:
        return printable
    end = (most - 3) // 2
    return f"{printable[: most - 3 - end]}...{printable[-end:]}"


def percent(share: float) -> str:
    """A share; 100.0 % only of all and 0.0 % only of nothing."""
    shown = min(max(round(share * 100, 1), 0.1 if share > 0 else 0.0), 100.0 if share >= 1 else 99.9)
    return f"{shown:.1f} %"


def amount(macs: int) -> str:
    """Multiply-accumulates: 512, 61.3 k, 217.3 M, 4.09 G."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if macs >= size:
            return f"{macs / size:.2f} {unit}" if unit == "G" else f"{macs / size:.1f} {unit}"
    return str(macs)


def counted(count: int, noun: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def place(found: Finding | Judged) -> str:
    """The torch layer, else the node, else the model as a whole."""
    return found.module or found.node or WHOLE


def target(report: Report) -> str:
    """``tidl-9.1 (AM62A)``"""
    return report.target + (f" ({report.device})" if report.device else "")


def verdicts(report: Report) -> Counter[Verdict]:
    """How many nodes have each verdict."""
    return Counter(judged.verdict for judged in report.nodes)


def headline(report: Report) -> str:
    """The answer in one line: does the model run on the target?"""
    summary, rejected = report.summary, verdicts(report)[Verdict.REJECTED]
    name, unknown = safe(report.model, 60), report.unknown_nodes
    nodes = counted(summary.nodes, "node")
    if rejected:
        verb = "is" if rejected == 1 else "are"
        return f"{name}: not clean on {target(report)}: {rejected:,} of {nodes} {verb} not accelerated"
    if errors := report.of_severity("error"):
        count = counted(len(errors), "error")
        return f"{name}: not clean on {target(report)}: no node is refused, but {count} of the whole model"
    if unknown:
        return f"{name}: open on {target(report)}: nothing is refused, but {unknown:,} of {nodes} cannot be judged"
    if not summary.nodes:
        return f"{name}: clean on {target(report)}: it has no node to run there"
    every = "its one node is" if summary.nodes == 1 else f"all {nodes} are"
    return f"{name}: clean on {target(report)}: {every} accelerated"


def shares(report: Report) -> str:
    """How much of the model is accelerated."""
    found = report.summary
    macs = f", {percent(found.mac_share)} of MACs ({amount(found.accelerated_macs)} of {amount(found.macs)})"
    nodes = f"{percent(found.node_share)} of nodes ({found.accelerated_nodes:,} of {found.nodes:,})"
    return nodes + (macs if found.macs else "")


def subgraphs(report: Report) -> str:
    """Into how many parts the model breaks, and whether the runtime takes so many."""
    found, most = report.summary.subgraphs, report.summary.max_subgraphs
    if not found:
        return "no subgraph"
    count = counted(len(found), "subgraph")
    if most is not None:
        count += f" (at most {most})" if len(found) <= most else f", more than the {most} that the runtime takes"
    if len(found) == 1:
        return count
    largest = counted(found[0].nodes, "node")
    if report.summary.macs:
        largest += f" and {percent(found[0].macs / report.summary.macs)} of MACs"
    return f"{count}; the largest has {largest}"


def left_out(report: Report) -> str:
    """The nodes that no share counts; "" where there are none."""
    counts = verdicts(report)
    parts = {Verdict.FREE: "of constants", Verdict.HOST: "that the host runs by design"}
    return ", ".join(f"{counted(counts[verdict], 'node')} {what}" for verdict, what in parts.items() if counts[verdict])


def rules(report: Report) -> str:
    """Which surgery rules would remove errors of nodes, those of most first, and for how many none is known."""
    errors = Counter(finding.rule for finding in report.of_severity("error") if finding.node)
    without = errors.pop("", 0)
    parts = [f"{rule} removes {counted(count, 'error')}" for rule, count in errors.most_common()]
    return ", ".join(parts + ([f"no rule known for {counted(without, 'error')}"] if without else []))
