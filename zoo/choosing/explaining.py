"""From a search that has ended to its explanation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import surgery
from surgery import Refusal, Risk
from zoo.choosing.candidates import Order, Proposals, concerns, considered, within
from zoo.choosing.explanation import Choice, Dropped, Explanation, Left
from zoo.choosing.linted import Linted, Rejected

if TYPE_CHECKING:
    from zoo.choosing.choose import State

WHOLE = "it is about the model as a whole, not a layer that a rule could replace"
RISKS = {
    Risk.NONE: "exact: the same output",
    Risk.NEAR: "close to what it replaces everywhere",
    Risk.SHAPE: "another activation of similar shape, to be fine-tuned",
    Risk.CONSTANT: "a constant for what each image decided, to be fine-tuned",
    Risk.REDRAWN: "weights that have to be learned",
}


def explained(first: Linted, state: State, proposals: Proposals, order: Order, stopped: str) -> Explanation:
    """Choices in the order of their turn, what was dropped, and what is left with the reason."""
    report = state.linted.report
    left = [Left(each.finding, _why_left(each, state, proposals, order)) for each in state.linted.rejected]
    whole = [Left(each, WHOLE) for each in state.linted.whole]
    return Explanation(
        target=report.target,
        device=report.device,
        choices=_choices(state),
        followed=_followed(state),
        dropped=tuple(Dropped(rule, site, why) for (rule, site), why in sorted(state.dropped.items())),
        left=(*whole, *left),
        rounds=state.rounds,
        before=first.report.summary,
        after=report.summary,
        stopped=stopped,
    )


def _choices(state: State) -> tuple[Choice, ...]:
    made = {(edit.rule, edit.site) for edit in state.edits}
    found = []
    for name, rule in surgery.rules().items():
        kept = [pick for place, pick in state.picked.items() if pick.rule == name and place in made]
        if not kept:
            continue
        removed = {each.finding.node: each.finding for pick in kept for each in pick.wanted}
        others = sorted(frozenset().union(*(pick.before for pick in kept)))
        why = RISKS[rule.risk] + (f"; before {', '.join(others)}" if others else "")
        sites = tuple(sorted(pick.site for pick in kept))
        found.append(Choice(name, sites, rule.promise.value, why, tuple(removed.values())))
    return tuple(found)


def _followed(state: State) -> tuple[str, ...]:
    done = {edit.rule for edit in state.edits}
    return tuple(name for name, rule in surgery.rules().items() if rule.follows and name in done)


def _why_left(rejected: Rejected, state: State, proposals: Proposals, order: Order) -> str:
    """The recipe's reason, or what every rule that removes such an operator has against doing it here."""
    if rejected.left:
        return f"the recipe leaves it: {rejected.left}"
    said: dict[str, None] = {}
    for rule in considered([rejected]):
        refusals = [each for each in proposals.get(rule.name, ()) if isinstance(each, Refusal)]
        tried = [why for (name, site), why in state.dropped.items() if name == rule.name and _touches(site, rejected)]
        if tried:
            said[f"{rule.name} was tried: {tried[0]}"] = None
        elif any(name == rule.name and _touches(site, rejected) for name, site in state.picked):
            said[f"{rule.name} acted and left it"] = None
        elif refused := [each for each in refusals if concerns(each, rejected)]:
            said[f"{rule.name}: {refused[0].reason}"] = None
        elif order(rule)[0] and any(concerns(each, rejected) for each in proposals.get(rule.name, ())):
            said[f"{rule.name}: the target lists nothing of what it leaves"] = None
    if said:
        return "; ".join(said)
    operators = ", ".join(sorted(rejected.operators)) or rejected.finding.op
    return f"no rule removes {operators} here"


def _touches(site: str, rejected: Rejected) -> bool:
    return site == rejected.layer or (bool(site) and within(rejected.layer, site))
