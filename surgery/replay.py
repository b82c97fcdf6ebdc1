"""Make a plan's edits again on a fresh source model."""

from copy import deepcopy

import torch
from torch import nn

from surgery.errors import PlanMismatch
from surgery.evidence import Evidence
from surgery.fingerprint import fingerprint
from surgery.record import Plan
from surgery.registry import rules


def replay(model: nn.Module, plan: Plan) -> nn.Module:
    """A copy of ``model`` with the plan's edits; structure only, weights are loaded after.

    Raises PlanMismatch where the plan was made for another model, by an unknown rule, or gives another result.
    """
    if fingerprint(model) != plan.before:
        raise PlanMismatch("the plan belongs to another source model (structural fingerprints differ)")
    known = rules()
    work = deepcopy(model)
    parameter = next(model.parameters(), torch.empty(0))
    inputs = [torch.zeros(shape, dtype=getattr(torch, dtype), device=parameter.device) for shape, dtype in plan.example]
    for edit in plan.edits:
        if edit.rule not in known:
            raise PlanMismatch(f"the plan needs rule {edit.rule!r}, which this version does not have")
        try:
            known[edit.rule].apply(work, edit, Evidence(work, inputs or None, None))
        except (LookupError, TypeError, ValueError) as error:
            raise PlanMismatch(f"the plan's edit {edit.rule} at {edit.site!r} does not fit: {error}") from error
    if fingerprint(work) != plan.after:
        raise PlanMismatch("the plan gives another model than it did when it was made (structural fingerprints differ)")
    return work
