"""Entries once more, on the graph of the whole model: it may hold calls that no forward by itself gave away."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import fx

from surgery.engine import apply_rules
from surgery.observing.names import of_node
from surgery.record import Edit, Refusal, Report
from surgery.replacement.entries import Entry
from surgery.replacement.pattern_entry import PatternEntry
from surgery.rule import Rule, Stage

_UNTRACED = "cannot trace it"


def applied_to_graph(
    graph: fx.GraphModule, rules: Sequence[Rule], report: Report, calibration: Iterable[Any] | None
) -> tuple[fx.GraphModule, tuple[Edit, ...], tuple[Refusal, ...]]:
    """The graph with what the rules left in it replaced, these edits, and what is left of all refusals.

    For a model that was not run: whoever runs it sees every call. Only rules that could not trace a forward or found
    nothing have a turn, and no entry that edited something, because what it made may hold what it is for.
    """
    names = {of_node(node) for node in graph.graph.nodes}
    again = [rule for rule in rules if _has_a_turn(rule, report) and any(wanted <= names for wanted in _wanted(rule))]
    if all(rule.stage is Stage.CLEANUP for rule in again):
        return graph, (), report.refusals
    result, found = apply_rules(graph, again, False, None, calibration)
    edited = {edit.rule for edit in found.edits}
    known = {refusal.rule for refusal in report.refusals}
    left = [r for r in report.refusals if not (r.rule in edited and _UNTRACED in r.reason)]
    left += [r for r in found.refusals if r.rule not in known]
    if not isinstance(result, fx.GraphModule) or not found.edits:
        return graph, (), tuple(left)
    return result, found.edits, tuple(left)


def _wanted(rule: Rule) -> tuple[frozenset[str], ...]:
    """Sets of operations, of which one has to be in the graph in full."""
    return rule.pattern.alternatives if isinstance(rule, PatternEntry) else rule.operations()


def _has_a_turn(rule: Rule, report: Report) -> bool:
    edited = any(edit.rule == rule.name for edit in report.edits)
    reasons = [refusal.reason for refusal in report.refusals if refusal.rule == rule.name]
    if edited and isinstance(rule, Entry):
        return False
    return any(_UNTRACED in reason for reason in reasons) or not (edited or reasons)
