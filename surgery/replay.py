"""Make a plan's edits again on a fresh source model."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from surgery.errors import PlanMismatch
from surgery.fingerprint import fingerprint
from surgery.observing.evidence import Evidence
from surgery.operating.copying import copy_model, why_not
from surgery.operating.example import Example
from surgery.operating.undo import written_back
from surgery.record import Plan
from surgery.registry import rules as all_rules
from surgery.rule import Rule


def replay(model: nn.Module, plan: Plan, rules: Sequence[Rule] = ()) -> nn.Module:
    """A copy of ``model`` with the plan's edits; structure only, weights are loaded after.

    Where edits depend on what the model does, it runs on zeros of the example's shapes, or else on random numbers.
    ``rules`` are those of your own that the plan was made with. Raises PlanMismatch where the plan was made for another
    model, by an unknown rule, or gives another result.
    """
    if not isinstance(plan, Plan):
        raise PlanMismatch(
            f"replay takes a surgery.Plan, not a {type(plan).__name__}; Plan.from_json makes one of JSON"
        )
    if reason := why_not(model):
        raise PlanMismatch(reason)
    if fingerprint(model) != plan.before:
        raise PlanMismatch("the plan belongs to another source model (structural fingerprints differ)")
    known: Mapping[str, Rule] = {**all_rules(), **{rule.name: rule for rule in rules}}
    if unknown := next((edit.rule for edit in plan.edits if edit.rule not in known), None):
        raise PlanMismatch(f"the plan needs rule {unknown!r}, which this version does not have")
    parameter = next(model.parameters(), torch.empty(0))
    zeros = Example.from_json(plan.example, parameter.device)
    try:
        return _replayed(model, plan, known, zeros)
    except PlanMismatch as mismatch:  # a forward may want more of its inputs than their shapes
        if zeros is None:
            raise
        try:
            return _replayed(model, plan, known, zeros.random())
        except PlanMismatch:
            raise mismatch from None


def _replayed(model: nn.Module, plan: Plan, known: Mapping[str, Rule], example: Example | None) -> nn.Module:
    """A copy with the plan's edits. Raises PlanMismatch where one does not fit, or the result is another model."""
    evidence = Evidence(copy_model(model), example, None)
    work = evidence.model
    parameters = list(zip(work.parameters(), model.parameters(), strict=True))
    for edit in plan.edits:
        try:
            known[edit.rule].apply(work, edit, evidence)
        except Exception as error:  # the model's own forward may raise anything on inputs of zeros
            raise PlanMismatch(f"the plan's edit {edit.rule} at {edit.site!r} does not fit: {error}") from error
        evidence.changed(edit.site)
    written_back(parameters)
    if fingerprint(work) != plan.after:
        raise PlanMismatch("the plan gives another model than it did when it was made (structural fingerprints differ)")
    return work
