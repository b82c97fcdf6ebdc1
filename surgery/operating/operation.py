"""One rule on one model: propose edits, make them, look at the result, take back what does not hold its promise."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from surgery.errors import one_line
from surgery.observing.evidence import Evidence
from surgery.observing.nesting import is_within
from surgery.observing.observe import Observation
from surgery.operating.in_double import outputs_in_double
from surgery.operating.undo import Snapshot
from surgery.operating.verify import broken_promise, same_within
from surgery.record import Edit, Refusal
from surgery.rule import Promise, Rule


@dataclass(frozen=True)
class Outcome:
    """What one rule did and declined."""

    edits: tuple[Edit, ...] = ()
    refusals: tuple[Refusal, ...] = ()  # sites that the rule left
    failed: tuple[Refusal, ...] = ()  # sites where it broke its promise, or itself


@dataclass(frozen=True)
class _Failure:
    """Edits that did not hold together, and why."""

    edits: tuple[Edit, ...]
    reason: str


Fault = Callable[[nn.Module], str | None]


def proposed(rule: Rule, evidence: Evidence, sites: Collection[str] | None = None) -> list[Edit | Refusal]:
    """What a rule would do and declines, at the named sites only where there are any. Raises what the rule raises."""
    return [each for each in rule.propose(evidence.model, evidence) if sites is None or each.site in sites]


def operate(
    rule: Rule,
    evidence: Evidence,
    past: Sequence[Edit | Refusal] = (),
    fault: Fault | None = None,
    sites: Collection[str] | None = None,
) -> Outcome:
    """Apply a rule in place. Whatever goes wrong at a site is a refusal there, and the site is as it was.

    Sites where the rule failed in the past are not tried again, nor modules that it made, nor any but ``sites`` where
    they are given. With ``fault``, which tells what is wrong with an edited model, each edit is made alone and the
    whole model is looked at.
    """
    try:
        proposals = proposed(rule, evidence, sites)
    except Exception as error:  # rules are open to others' code
        return Outcome(failed=(Refusal(rule.name, "", f"the rule fails: {one_line(error)}"),))
    refusals = [proposal for proposal in proposals if isinstance(proposal, Refusal)]
    wanted = _outermost([p for p in proposals if isinstance(p, Edit) and not _is_settled(p, past)])
    if not wanted:
        return Outcome(refusals=tuple(refusals))
    groups = [[edit] for edit in wanted] if fault else [wanted]
    done: list[Edit] = []
    failed: list[Refusal] = []
    while groups:
        group = groups.pop(0)
        failures = _attempt(rule, group, evidence, fault)
        if not failures:
            done += group
            continue
        bad = [edit for failure in failures for edit in failure.edits]
        if good := [edit for edit in group if edit not in bad]:
            groups.append(good)
        for failure in failures:
            if len(failure.edits) == 1:
                failed.append(Refusal(rule.name, failure.edits[0].site, failure.reason))
            else:
                groups += [[edit] for edit in failure.edits]
    return Outcome(tuple(done), tuple(refusals), tuple(failed))


def _is_settled(edit: Edit, past: Sequence[Edit | Refusal]) -> bool:
    """Whether the rule failed at this site before, or made the module that it would replace."""
    for event in past:
        if event.rule != edit.rule:
            continue
        if isinstance(event, Refusal) and event.site == edit.site:
            return True
        replaced = isinstance(event, Edit) and "rewrites" not in event.params and "rewrites" not in edit.params
        if replaced and is_within(edit.site, event.site):
            return True
    return False


def _outermost(edits: Sequence[Edit]) -> list[Edit]:
    """Without replacements of what is inside a module that is replaced itself."""
    replaced = {edit.site for edit in edits if "rewrites" not in edit.params}
    return [e for e in edits if not any(e.site != site and is_within(e.site, site) for site in replaced)]


def _attempt(rule: Rule, edits: Sequence[Edit], evidence: Evidence, fault: Fault | None) -> list[_Failure]:
    """Make the edits; where some do not hold, nothing has changed and those are returned."""
    model = evidence.model
    names = {module: name for name, module in evidence.modules()}
    snapshot = Snapshot(model)
    try:
        for edit in edits:
            rule.apply(model, edit, evidence)
            rule.warm_start(model, edit, evidence)
    except Exception as error:  # rules are open to others' code
        snapshot.restore()
        return [_Failure(tuple(edits), one_line(error))]
    found = {"": list(edits)} if fault else _roots(model, edits, snapshot, names)
    found = {root: group for root, group in found.items() if evidence.has_run(root)}
    try:
        before = _outputs_before(rule, found, evidence, snapshot)
    except Exception as error:  # models are open to others' code
        snapshot.restore()
        return [_Failure(tuple(edits), one_line(error))]
    seen: dict[str, Observation] = {}
    failures = []
    evidence.expect(found)
    for root, group in found.items():
        result = _look(rule, root, group, evidence, before[root], snapshot)
        if fault and not isinstance(result, str) and (wrong := fault(model)):
            result = wrong
        if isinstance(result, str):
            failures.append(_Failure(tuple(group), result))
        else:
            seen[root] = result
    if failures:
        snapshot.restore()
        return failures
    for site in {edit.site for edit in edits} - seen.keys():
        evidence.changed(site)
    for root, observation in seen.items():
        evidence.changed(root, observation)
    return []


def _roots(
    model: nn.Module, edits: Sequence[Edit], snapshot: Snapshot, names: dict[nn.Module, str]
) -> dict[str, list[Edit]]:
    """Where to look for what edits did: at each site, or at the one module that holds all that changed."""
    sites = {edit.site for edit in edits}
    changed = [names[module] for module in snapshot.changed()]
    parents = {site.rpartition(".")[0] for site in sites if site}
    if all(name in parents or any(is_within(name, site) for site in sites) for name in changed):
        places = {_standing(model, site) for site in sites}
        outer = [place for place in places if not any(place != o and is_within(place, o) for o in places)]
        return {root: [edit for edit in edits if is_within(edit.site, root)] for root in sorted(outer)}
    return {_common([*sites, *changed]): list(edits)}


def _standing(model: nn.Module, site: str) -> str:
    """The site, or what holds it where an edit took it away."""
    while site:
        parent, _, key = site.rpartition(".")
        if (holder := _submodule(model, parent)) and key in holder._modules:
            return site
        site = parent
    return site


def _submodule(model: nn.Module, name: str) -> nn.Module | None:
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None


def _common(names: Sequence[str]) -> str:
    shared = []
    for together in zip(*(name.split(".") for name in names), strict=False):
        if len(set(together)) > 1:
            break
        shared.append(together[0])
    return ".".join(shared)


def _look(
    rule: Rule, root: str, edits: Sequence[Edit], evidence: Evidence, before: Any, snapshot: Snapshot
) -> Observation | str:
    """What the edited module does now, or why it does not hold the promise."""
    try:
        after = evidence.rerun(root)
    except Exception as error:  # rules and models are open to others' code
        return one_line(error)
    what = "its output" if root == edits[0].site else f"the output of {root}" if root else "the model's output"
    run = after.runs[root]
    within = same_within([before, run.args, run.kwargs])

    def in_double() -> tuple[Any, Any]:
        return outputs_in_double(evidence.model, root, snapshot, evidence.received(root))

    return broken_promise(rule.promise, before, run.output, what, within, in_double) or after


def _outputs_before(rule: Rule, roots: Iterable[str], evidence: Evidence, snapshot: Snapshot) -> dict[str, Any]:
    """What modules returned before the edits; the values matter only where the promise is about values."""
    exact = rule.promise is Promise.SAME_OUTPUT
    unknown = [root for root in roots if exact and not evidence.is_current(root)]
    outputs = {root: evidence.recorded(root).output for root in roots if root not in unknown}
    if unknown:
        evidence.expect(unknown)
        with snapshot.standing(evidence.model):
            outputs |= {root: evidence.rerun(root).runs[root].output for root in unknown}
    return outputs
