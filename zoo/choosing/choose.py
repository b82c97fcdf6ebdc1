"""The loop: lint, pick rules for what is refused, apply them, lint again, keep what helped, until nothing does."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

import surgery
from surgery import SurgeryError
from surgery.engine import apply_rules
from zoo.choosing.candidates import Order, Pick, Place, considered, picks, within
from zoo.choosing.explaining import explained
from zoo.choosing.explanation import Explanation
from zoo.choosing.linted import Lint, Linted
from zoo.errors import StepError

MAX_ROUNDS = 8
NO_DEVICE = "device"  # the linter's limit of a device without an accelerator


@dataclass(frozen=True)
class State:
    """How far the search is. ``picked`` are in force; ``dropped`` were tried, with what spoke against them."""

    model: nn.Module
    linted: Linted
    picked: Mapping[Place, Pick] = field(default_factory=dict)
    dropped: Mapping[Place, str] = field(default_factory=dict)
    edits: tuple[surgery.Edit, ...] = ()
    rounds: int = 0


@dataclass(frozen=True)
class Trial:
    """The source with some rules applied, and what surgery said."""

    model: nn.Module
    edits: tuple[surgery.Edit, ...]
    refusals: tuple[surgery.Refusal, ...]


def choose(source: nn.Module, lint: Lint, order: Order, example: Any, calibration: Sequence[Tensor]) -> Explanation:
    """What to apply to ``source``, by rule and site, so that its target refuses less; ``source`` is left as it was.

    A rule stays at a site where fewer nodes are refused than were before it. ``example`` and ``calibration`` are as for
    ``surgery.lite``; give calibration here if the rules are applied with it afterwards. Raises SurgeryError where the
    source cannot be operated on.
    """
    first = lint(source)
    state, proposals = State(source, first), dict[str, tuple[surgery.Edit | surgery.Refusal, ...]]()
    stopped = ""
    while not state.linted.clean and all(each.limit != NO_DEVICE for each in state.linted.whole):
        rules = [rule.name for rule in considered(state.linted.rejected)]
        proposals = surgery.proposals(state.model, rules, example, calibration) if rules else {}
        found = picks(state.linted.rejected, proposals, {*state.picked, *state.dropped}, order)
        if not found:
            break
        if state.rounds == MAX_ROUNDS:
            stopped = f"stopped after {MAX_ROUNDS} rounds, though {', '.join(sorted({p.rule for p in found}))} may help"
            break
        state = _next(source, replace(state, rounds=state.rounds + 1), found, lint, example, calibration)
    return explained(first, state, proposals, order, stopped)


def _next(
    source: nn.Module, state: State, found: Sequence[Pick], lint: Lint, example: Any, calibration: Sequence[Tensor]
) -> State:
    """Try the picks together with those in force; keep those that helped.

    Where they break the model, or leave one that cannot be exported, the halves are tried, down to the pick at fault.
    """
    try:
        return _tried(source, state, found, lint, example, calibration)
    except (SurgeryError, StepError) as error:
        if len(found) == 1:
            return replace(state, dropped={**state.dropped, found[0].place: str(error)})
    middle = len(found) // 2
    for half in (found[:middle], found[middle:]):
        state = _next(source, state, half, lint, example, calibration)
    return state


def _tried(
    source: nn.Module, state: State, found: Sequence[Pick], lint: Lint, example: Any, calibration: Sequence[Tensor]
) -> State:
    """Raises SurgeryError where the picks break the model together, StepError where it cannot be exported with them."""
    tried = {**state.picked, **{pick.place: pick for pick in found}}
    trial = _apply(source, tried, example, calibration)
    linted = lint(trial.model)
    faults = {pick.place: fault for pick in found if (fault := _fault(pick, state, trial, linted))}
    dropped = {**state.dropped, **faults}
    kept = {place: pick for place, pick in tried.items() if place not in faults}
    if kept == state.picked:
        return replace(state, dropped=dropped)
    kept = {place: _credited(pick, kept.values(), state.linted, linted) for place, pick in kept.items()}
    if not faults:
        return replace(state, model=trial.model, linted=linted, picked=kept, edits=trial.edits)
    trial = _apply(source, kept, example, calibration)
    return replace(state, model=trial.model, linted=lint(trial.model), picked=kept, dropped=dropped, edits=trial.edits)


def _apply(source: nn.Module, picked: Iterable[Place], example: Any, calibration: Sequence[Tensor]) -> Trial:
    sites: dict[str, list[str]] = {}
    for rule, site in picked:
        sites.setdefault(rule, []).append(site)
    rules = [rule for rule in surgery.rules().values() if rule.name in sites or rule.follows]
    model, report = apply_rules(source, rules, False, example, calibration, sites)
    return Trial(model, report.edits, report.refusals)


def _fault(pick: Pick, state: State, trial: Trial, linted: Linted) -> str:
    """Why a pick is not to stay, "" where it helps."""
    if not any((edit.rule, edit.site) == pick.place for edit in trial.edits):
        reasons = (each.reason for each in trial.refusals if (each.rule, each.site) == pick.place)
        return next(reasons, "another rule took its place")
    known = {name for name, _ in state.model.named_modules()}
    layers = {each.layer for each in pick.wanted}

    def near(layer: str) -> bool:
        held = any(layer == each or (each and within(layer, each)) for each in layers)
        return held or (layer not in known and within(layer, pick.site))

    before = {each.finding.node for each in state.linted.rejected if near(each.layer)}
    after = {each.finding.node: each.finding for each in linted.rejected if near(each.layer)}
    if len(after) < len(before):
        return ""
    facts = dict.fromkeys(f"{each.op}: {each.fact}" for each in after.values())
    return f"the target still refuses {'; '.join(list(facts)[:2])}"


def _credited(pick: Pick, kept: Iterable[Pick], before: Linted, after: Linted) -> Pick:
    """With what else is gone inside of its site, that no other pick is there for."""
    others = {id(each) for pick in kept for each in pick.wanted}
    still = {each.layer for each in after.rejected}
    gone = (each for each in before.rejected if id(each) not in others and each.layer not in still)
    return replace(pick, wanted=(*pick.wanted, *(each for each in gone if pick.site and within(each.layer, pick.site))))
