"""A report as text of at most 100 columns: the answer, what stands in its way and what helps, and how much is left.

For a clean model that is two lines.
"""

from collections.abc import Iterable, Iterator
from textwrap import wrap

from zoo.linting import wording
from zoo.linting.groups import SEVERITIES, Group, first_few, grouped
from zoo.linting.report import Report
from zoo.linting.wording import counted, place, safe

WIDTH = 100
LABEL = 13
LAYER, PLACE, FACT = 40, 60, 160  # longest of each
LINE_PLACE = 47  # in the line of one node


def write(report: Report) -> str:
    """The answer, findings and summary."""
    findings = list(_findings(report))
    rest = [*findings, "", *_summary(report)] if findings else [_in_one_line(report)]
    return _joined([wording.headline(report), *rest])


def write_with_nodes(report: Report) -> str:
    """The same with a line for each node, in the order in which they run."""
    return _joined([wording.headline(report), *_findings(report), "", *_nodes(report), "", *_summary(report)])


def _joined(lines: Iterable[str]) -> str:
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _findings(report: Report) -> Iterator[str]:
    groups = grouped(report)
    for severity in SEVERITIES:
        if found := report.of_severity(severity):
            yield ""
            yield f"{counted(len(found), severity)}: {wording.MEANS[severity]}"
            for group in groups:
                if group.severity == severity:
                    yield from _group(group)


def _group(group: Group) -> Iterator[str]:
    count = f"{len(group.findings):>5,}x  "
    no_cure = " -> no rule known" if group.severity == "error" and group.of_nodes else ""
    cure = f" -> rule {group.rule}" if group.rule else no_cure
    yield from _hanging(count, f"{_found(group)}{cure}")
    if group.of_nodes:
        yield f"{' ' * len(count)}{_places(group, WIDTH - len(count))}"


def _places(group: Group, width: int) -> str:
    """As many as fit into a line, three at most, and how many more there are."""
    places = [safe(each, PLACE) for each in group.places]
    return next(text for most in (3, 2, 1) if len(text := first_few(places, most)) <= width or most == 1)


def _found(group: Group) -> str:
    """The layer and the commonest fact; one that begins with the operator needs no layer before it."""
    layer, op = safe(group.layer, LAYER) or "model", group.findings[0].op
    fact, *more = group.facts
    begins = bool(op) and fact.startswith(f"{op} ")
    said = safe(fact.removeprefix(op).lstrip() if begins else fact, FACT)
    others = f" (and {counted(len(more), 'other value')})" if more else ""
    return f"{layer}{' ' if begins else ': '}{said}{others}"


def _nodes(report: Report) -> Iterator[str]:
    """Verdict, subgraph, MACs, operator and place of each."""
    yield f"{counted(len(report.nodes), 'node')}, in the order in which they run"
    yield f"  {'verdict':<11}  {'part':>4}  {'MACs':>8}  {'operator':<20}  layer, else node"
    for judged in report.nodes:
        part = "-" if judged.subgraph is None else str(judged.subgraph)
        macs = "?" if judged.macs is None else wording.amount(judged.macs)
        where = safe(place(judged), LINE_PLACE)
        yield f"  {judged.verdict:<11}  {part:>4}  {macs:>8}  {safe(judged.op, 20):<20}  {where}"


def _summary(report: Report) -> Iterator[str]:
    facts = {
        "accelerated": wording.shares(report),
        "runs in": wording.subgraphs(report),
        "left out": wording.left_out(report),
        "rules": wording.rules(report),
        "unchecked": _unchecked(report),
    }
    for label, text in facts.items():
        if text:
            yield from _hanging(f"{label:<{LABEL}}", text)


def _in_one_line(report: Report) -> str:
    """Of a model that is accelerated throughout."""
    macs = f"{wording.amount(report.summary.macs)} MACs in " if report.summary.macs else ""
    parts = (f"{macs}{wording.subgraphs(report)}", wording.left_out(report), _unchecked(report))
    return "; ".join(part for part in parts if part)


def _unchecked(report: Report) -> str:
    if not report.unchecked:
        return ""
    limits = counted(len(report.unchecked), "limit")
    return f"{limits} cannot be checked in a float model (--format json lists them)"


def _hanging(label: str, text: str) -> list[str]:
    return wrap(
        text,
        WIDTH,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_on_hyphens=False,
    )
