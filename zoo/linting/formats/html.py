"""A report as one HTML page that needs nothing beside itself: no script, no font, no picture from anywhere.

What is seen of long tables is chosen by radio buttons and CSS. Names come from untrusted files: all text is escaped,
and the page's own policy forbids every script.
"""

from collections.abc import Iterable, Iterator
from html import escape
from itertools import groupby

from zoo.linting import wording
from zoo.linting.groups import SEVERITIES, Group, grouped
from zoo.linting.report import Judged, Report, Verdict

TEXT = 400  # longest name or fact
MEANS = {
    Verdict.ACCELERATED: "accelerated",
    Verdict.FUSED: "accelerated as part of a pattern",
    Verdict.FREE: "a constant, computed once",
    Verdict.HOST: "the host's by design",
    Verdict.REJECTED: "not accelerated",
    Verdict.UNKNOWN: "the file does not tell",
}
STYLE = """
:root { color-scheme: light dark; --line: #8885; --good: #2e7d32; --bad: #c62828; --unsure: #b26a00; --host: #546e7a }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem }
h1 { font-size: 1.25rem; border-left: .5rem solid var(--bad); padding-left: .7rem }
h1.clean { border-color: var(--good) }
h2 { font-size: 1.05rem; margin-top: 2rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem } dt { opacity: .7 } dd { margin: 0 }
.bar { display: flex; height: 2.2rem; overflow: hidden; border-radius: .3rem }
.bar span { flex-basis: 0; box-shadow: inset -1px 0 Canvas }
.key { display: inline-block; width: .8em; height: .8em; border-radius: .15em; margin: 0 .3em 0 1em }
.accelerated { --as: var(--good) } .fused { --as: #00838f } .rejected, .error { --as: var(--bad) } .free { --as: #8886 }
.unknown, .warning { --as: var(--unsure) } .host, .cost { --as: var(--host) } .other { opacity: .75 }
.bar span, .key { background: var(--as) } td.mark { color: var(--as); font-weight: 600 }
@media (prefers-color-scheme: dark) { :root { --good: #66bb6a; --bad: #ef6c6c; --unsure: #ffb74d; --host: #90a4ae } }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line) }
td { overflow-wrap: anywhere } td.number, th.number { text-align: right; white-space: nowrap }
label { margin-right: 1rem; cursor: pointer } code { font-size: .92em }
"""


def write(report: Report) -> str:
    """The page: the answer, the graph as a bar, findings, every node."""
    title, choices = wording.headline(report), "\n".join(_choices())
    clean = ' class="clean"' if report.clean else ""
    parts = [
        f"<h1{clean}>{_text(title)}</h1>",
        *_facts(report),
        *_bar(report),
        *_findings(report),
        *_nodes(report),
    ]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{_text(title)}</title>",
            f"<style>{STYLE}{choices}</style></head><body>",
            *parts,
            "</body></html>\n",
        ]
    )


def _text(text: str) -> str:
    return escape(wording.safe(text, TEXT))


def _facts(report: Report) -> Iterator[str]:
    facts = {
        "accelerated": wording.shares(report),
        "runs in": wording.subgraphs(report),
        "left out": wording.left_out(report),
        "rules": wording.rules(report),
    }
    yield "<dl>"
    yield from (f"<dt>{label}</dt><dd>{escape(text)}</dd>" for label, text in facts.items() if text)
    yield from (f"<dt>unchecked</dt><dd>{_text(text)}</dd>" for text in report.unchecked)
    yield "</dl>"


def _bar(report: Report) -> Iterator[str]:
    """Runs of nodes that belong together, in the order in which they run, each as wide as it has nodes."""
    run_on_images = [judged for judged in report.nodes if judged.verdict != Verdict.FREE]
    if not run_on_images:
        return
    yield '<h2>The graph, in the order in which it runs</h2><div class="bar">'
    for (part, verdict), nodes in groupby(run_on_images, key=_part):
        yield _segment(part, verdict, tuple(nodes))
    yield "</div><p>"
    for verdict in dict.fromkeys(judged.verdict for judged in run_on_images):
        yield f'<span class="key {verdict}"></span>{MEANS[verdict]}'
    yield "</p>"


def _part(judged: Judged) -> tuple[int | None, Verdict]:
    inside = judged.subgraph is not None
    return judged.subgraph, Verdict.ACCELERATED if inside else judged.verdict


def _segment(part: int | None, verdict: Verdict, nodes: tuple[Judged, ...]) -> str:
    name = MEANS[verdict] if part is None else f"subgraph {part}"
    ends = dict.fromkeys(wording.place(judged) for judged in (nodes[0], nodes[-1]))
    about = f"{name}: {wording.counted(len(nodes), 'node')}, {' to '.join(ends)}"
    other = " other" if part is not None and part % 2 else ""
    return f'<span class="{verdict}{other}" style="flex-grow:{len(nodes)}" title="{_text(about)}"></span>'


def _findings(report: Report) -> Iterator[str]:
    groups = grouped(report)
    if not groups:
        yield "<h2>Findings</h2><p>None.</p>"
        return
    counts = {severity: len(report.of_severity(severity)) for severity in SEVERITIES}
    yield f"<h2>Findings ({len(report.findings):,})</h2>"
    yield from _radios("findings", {severity: count for severity, count in counts.items() if count})
    rows = ((group.severity, _group(group)) for group in groups)
    yield from _table(("severity", "#count", "layer", "found", "rule that removes it", "where"), rows)
    yield "</div>"


def _group(group: Group) -> str:
    facts = "<br>".join(_text(fact) for fact in group.facts)
    places = "<br>".join(f"<code>{_text(each)}</code>" for each in group.places)
    if len(group.places) > 3:
        places = f"<details><summary>{len(group.places):,} places</summary>{places}</details>"
    return (
        f'<td class="mark">{group.severity}</td><td class="number">{len(group.findings):,}</td>'
        f"<td>{_text(group.layer or 'model')}</td><td>{facts}</td><td>{_text(group.rule)}</td><td>{places}</td>"
    )


def _nodes(report: Report) -> Iterator[str]:
    facts: dict[str, list[str]] = {}
    for finding in report.findings:
        facts.setdefault(finding.node, []).append(finding.fact)
    counts = wording.verdicts(report)
    yield f"<h2>Nodes ({len(report.nodes):,})</h2>"
    yield from _radios("nodes", {verdict: counts[verdict] for verdict in Verdict if counts[verdict]})
    rows = ((judged.verdict, _node(number, judged, facts)) for number, judged in enumerate(report.nodes, 1))
    yield from _table(("#", "verdict", "#subgraph", "operator", "layer", "node", "#MACs", "found"), rows)
    yield "</div>"


def _node(number: int, judged: Judged, facts: dict[str, list[str]]) -> str:
    part = "" if judged.subgraph is None else str(judged.subgraph)
    macs = "?" if judged.macs is None else f"{judged.macs:,}"
    found = "<br>".join(_text(fact) for fact in facts.get(judged.node, ()))
    torch_op = f" ({_text(judged.torch_op)})" if judged.torch_op else ""
    return (
        f'<td class="number">{number:,}</td><td class="mark">{judged.verdict}</td><td class="number">{part}</td>'
        f"<td>{_text(judged.op)}{torch_op}</td><td><code>{_text(judged.module)}</code></td>"
        f'<td><code>{_text(judged.node)}</code></td><td class="number">{macs}</td><td>{found}</td>'
    )


def _table(header: Iterable[str], rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Rows with their class; a column whose name begins with # holds numbers."""
    cells = (f'<th class="number">{name[1:]}</th>' if name[0] == "#" else f"<th>{name}</th>" for name in header)
    yield f'<div class="scroll"><table><thead><tr>{"".join(cells)}</tr></thead><tbody>'
    yield from (f'<tr class="{kind}">{row}</tr>' for kind, row in rows)
    yield "</tbody></table></div>"


def _radios(table: str, counts: dict[str, int]) -> Iterator[str]:
    """What of the table is shown; it opens the part of the page that the choice is for."""
    yield "<div>"
    for kind, count in {"all": sum(counts.values()), **counts}.items():
        checked = " checked" if kind == "all" else ""
        name = f"{table}-{kind}"
        yield f'<input type="radio" name="{table}" id="{name}"{checked}><label for="{name}">{kind} ({count:,})</label>'


def _choices() -> Iterator[str]:
    """The CSS that hides what is not chosen."""
    kinds = {"findings": SEVERITIES, "nodes": tuple(Verdict)}
    for table, classes in kinds.items():
        for kind in classes:
            yield f"#{table}-{kind}:checked ~ .scroll tbody tr:not(.{kind}) {{ display: none }}"
