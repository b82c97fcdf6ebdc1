"""Apply rules to a copy of a model, look at the result after each, and keep what held its promise."""

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from surgery.batchnorm import reestimate_batchnorm
from surgery.errors import SurgeryError
from surgery.evidence import Evidence
from surgery.fingerprint import fingerprint
from surgery.observe import Observation, tensors
from surgery.record import Edit, Plan, Refusal, Report, describe_inputs
from surgery.registry import rules as all_rules
from surgery.rule import Promise, Rule, Stage

# Largest |after - before| over largest |before| that counts as the same output of a whole model.
SAME = 1e-4


def lite(
    model: nn.Module,
    rules: Literal["default"] | Sequence[str] = "default",
    example_inputs: Sequence[Any] | None = None,
    calibration: Iterable[Tensor] | None = None,
) -> tuple[nn.Module, Report]:
    """A lite copy of ``model`` and the report of what was done and declined; ``model`` itself is left as it was.

    ``rules`` are names, or "default" for all. With ``example_inputs`` (positional) the model is run, so that calls in
    every module's forward are found and each rule's promise is checked on the spot; a site where it does not hold is
    left and refused with the reason. With ``calibration`` (batches of model inputs, iterated several times) removed
    gates become their mean and BatchNorm statistics are measured anew.

    Raises SurgeryError where a name is no rule, a named rule changes nothing, or the model fails on its inputs.
    """
    chosen, named = _choose(rules)
    batches = list(calibration) if isinstance(calibration, Iterator) else calibration  # read more than once
    work = _copy(model)
    before = fingerprint(work)
    edits: list[Edit] = []
    refusals: list[Refusal] = []
    evidence = Evidence(work, example_inputs, batches)
    for rule in chosen:
        if rule.stage is Stage.CLEANUP and not edits and not named:
            continue
        work, done, declined = _apply_rule(rule, evidence)
        if work is not evidence.model:
            evidence = Evidence(work, example_inputs, batches)
        edits += done
        refusals += declined
    if named:
        _require_edits(chosen, edits, refusals)
    plan = Plan(before, fingerprint(work), tuple(edits), describe_inputs(example_inputs or ()))
    if any(edit.promise == Promise.SAME_SHAPE for edit in edits):
        reestimate_batchnorm(work, batches or ())
    return work, Report(plan, tuple(refusals))


def _choose(names: Literal["default"] | Sequence[str]) -> tuple[list[Rule], bool]:
    known = all_rules()
    if names == "default":
        return [rule for rule in known.values() if rule.default], False
    if isinstance(names, str):
        raise SurgeryError(f"rules must be 'default' or a list of names, not {names!r}")
    if unknown := [name for name in names if name not in known]:
        raise SurgeryError(f"no rule named {', '.join(map(repr, unknown))}; known: {', '.join(sorted(known))}")
    return [rule for name, rule in known.items() if name in names], True


def _copy(model: nn.Module) -> nn.Module:
    try:
        return deepcopy(model)
    except Exception as error:  # user classes may refuse in any way
        raise SurgeryError(f"the model cannot be copied: {type(error).__name__}: {error}") from error


def _require_edits(chosen: Sequence[Rule], edits: Sequence[Edit], refusals: Sequence[Refusal]) -> None:
    done = {edit.rule for edit in edits}
    idle = []
    for rule in chosen:
        if rule.name not in done:
            why = next((f"{r.site}: {r.reason}" for r in refusals if r.rule == rule.name), "it matches no layer")
            idle.append(f"{rule.name} ({why})")
    if idle:
        raise SurgeryError(f"named rules changed nothing: {'; '.join(idle)}; take them off the list")


def _apply_rule(rule: Rule, evidence: Evidence) -> tuple[nn.Module, list[Edit], list[Refusal]]:
    """The model that a rule leaves (the same one where it edits nothing), its edits and what it declined."""
    model = evidence.model
    try:
        before = evidence.observation()
    except Exception as error:  # the model's own forward may raise anything
        raise SurgeryError(f"the model fails on the example inputs: {type(error).__name__}: {error}") from error
    proposals = list(rule.propose(model, evidence))
    edits = [proposal for proposal in proposals if isinstance(proposal, Edit)]
    refusals = [proposal for proposal in proposals if isinstance(proposal, Refusal)]
    if not edits:
        return model, [], refusals
    whole = _attempt(model, rule, edits, evidence, before)
    if isinstance(whole, nn.Module):
        return whole, edits, refusals
    done = []
    for edit in edits:  # one by one, to find the site that does not hold
        result = _attempt(model, rule, [edit], Evidence(model, evidence.inputs, evidence.calibration), before)
        if isinstance(result, nn.Module):
            model = result
            done.append(edit)
        else:
            refusals.append(Refusal(rule.name, edit.site, result))
    return model, done, refusals


def _attempt(
    model: nn.Module, rule: Rule, edits: Sequence[Edit], evidence: Evidence, before: Observation | None
) -> nn.Module | str:
    """The edited copy, or the reason why it does not hold the rule's promise."""
    trial = deepcopy(model)
    try:
        for edit in edits:
            rule.apply(trial, edit, evidence)
            rule.warm_start(trial, edit, evidence)
        after = Evidence(trial, evidence.inputs, None).observation()
    except Exception as error:  # rules and models are open to others' code
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if before is None or after is None:
        return trial
    observed = any(edit.params.get("trace") == "observed" for edit in edits)
    frozen = observed and evidence.inputs is not None and _frozen_batch(model, trial, evidence.inputs)
    return _broken_promise(rule, edits, before, after) or frozen or trial


def _frozen_batch(before: nn.Module, after: nn.Module, inputs: Sequence[Any]) -> str:
    """Why the edited model is bound to the example's batch size though the model was not; else nothing.

    Only a module that was traced with real inputs can be: numbers made of a shape are constants in its graph.
    """
    doubled = [torch.cat([x, x]) if isinstance(x, Tensor) and x.ndim else x for x in inputs]
    try:
        expected = _shapes(Evidence(before, doubled, None).observation().output)  # type: ignore[union-attr]
    except Exception:  # the model itself takes no other batch
        return ""
    try:
        found = _shapes(Evidence(after, doubled, None).observation().output)  # type: ignore[union-attr]
    except Exception as error:  # whatever a frozen number leads to
        return f"it would be bound to the example's batch size: {type(error).__name__}"
    return "" if found == expected else "it would be bound to the example's batch size"


def _broken_promise(rule: Rule, edits: Sequence[Edit], before: Observation, after: Observation) -> str | None:
    for edit in edits:
        if edit.site in before.runs and edit.site in after.runs:
            was, now = _shapes(before.runs[edit.site].output), _shapes(after.runs[edit.site].output)
            if was != now:
                return f"its output would become {now} instead of {was}"
    was, now = _shapes(before.output), _shapes(after.output)
    if was != now:
        return f"the model's output would become {now} instead of {was}"
    if rule.promise is Promise.SAME_OUTPUT:
        off = difference(before.output, after.output)
        if not off <= SAME:
            return f"the model's output would change by {off:.2g} of its largest value"
    return None


def _shapes(value: Any) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor in tensors(value)]


def difference(before: Any, after: Any) -> float:
    """Largest |after - before| over the largest |before|, over all tensors of two outputs."""
    worst = 0.0
    for was, now in zip(tensors(before), tensors(after), strict=True):
        was, now = was.detach(), now.detach()
        if was.numel() and not torch.equal(was, now):
            scale = was.abs().max().double().clamp_min(torch.finfo(torch.float64).tiny)
            worst = max(worst, float((now.double() - was.double()).abs().max() / scale))
    return worst
