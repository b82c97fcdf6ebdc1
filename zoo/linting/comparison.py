"""One model on several targets: a line for each, by which a device is chosen."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from zoo.errors import UnknownName
from zoo.graph.view import Graph
from zoo.linting import wording
from zoo.linting.devices import chosen_devices
from zoo.linting.lint import lint
from zoo.linting.report import Finding, Report
from zoo.releases.columns import aligned
from zoo.targets.target import Target

HEADER = ("target", "verdict", "nodes", "MACs", "subgraphs", "the largest")
EACH = "all"


@dataclass(frozen=True)
class Absent:
    """A target that has no device of the name that was asked for."""

    target: str
    reason: str


def compare(
    graph: Graph, targets: Mapping[str, Target], *, model: str, device: str = "", host: frozenset[str] = frozenset()
) -> list[Report | Absent]:
    """What ``lint`` says of each target; ``device="all"`` asks for each of its devices.

    Raises UnknownName where no target has the device, and what ``lint`` raises.
    """
    found: list[Report | Absent] = []
    for name, target in targets.items():
        try:
            devices = chosen_devices(target, name, "") if device == EACH else (device,)
            found += [lint(graph, target, model=model, target_name=name, device=each, host=host) for each in devices]
        except UnknownName as error:
            found.append(Absent(name, str(error)))
    reasons = [each.reason for each in found if isinstance(each, Absent)]
    if len(reasons) == len(found):
        raise UnknownName(reasons[0])
    return found


def clean(found: Sequence[Report | Absent]) -> bool:
    """Whether the model is clean on every target that has the device."""
    return all(each.clean for each in found if isinstance(each, Report))


def write(found: Sequence[Report | Absent]) -> str:
    """A line for each: is it clean, how much of it is accelerated, in how many parts, how large is the largest."""
    return aligned(HEADER, list(_rows(found))) + "\n"


def _rows(found: Sequence[Report | Absent]) -> Iterator[tuple[str, ...]]:
    for each in found:
        if isinstance(each, Absent):
            yield (each.target, "no such device", *["-"] * (len(HEADER) - 2))
        else:
            summary = each.summary
            largest = summary.subgraphs[0] if summary.subgraphs else None
            most = f" of {summary.max_subgraphs}" if summary.max_subgraphs else ""
            yield (
                wording.target(each),
                _verdict(each),
                wording.percent(summary.node_share),
                wording.percent(summary.mac_share) if summary.macs else "-",
                f"{len(summary.subgraphs)}{most}",
                f"{wording.counted(largest.nodes, 'node')}, {wording.amount(largest.macs)} MACs" if largest else "-",
            )


def _verdict(report: Report) -> str:
    unknown, warnings = report.unknown_nodes, len(report.of_severity("warning"))
    found = {
        "clean": report.clean,
        _errors(report.of_severity("error")): True,
        f"{wording.counted(unknown, 'node')} open": unknown,
        wording.counted(warnings, "warning"): report.clean and warnings,
    }
    return ", ".join(words for words, said in found.items() if words and said)


def _errors(errors: Sequence[Finding]) -> str:
    """How many, and of errors of the whole model alone which."""
    if not errors:
        return ""
    of_nodes = any(finding.node for finding in errors)
    limits = "" if of_nodes else f": {', '.join(dict.fromkeys(finding.limit for finding in errors))}"
    return wording.counted(len(errors), "error") + limits
