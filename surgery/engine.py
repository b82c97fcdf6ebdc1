"""Apply rules to a copy of a model, look at the result after each, and keep what held its promise."""

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from time import perf_counter
from typing import Any, Literal

import torch
from torch import Tensor, nn

from surgery.batchnorm import reestimate_batchnorm
from surgery.choice import Sites, choose, require_edits, require_sites
from surgery.errors import SurgeryError, one_line
from surgery.fingerprint import fingerprint
from surgery.leftover import left_alone
from surgery.observing.evidence import Evidence
from surgery.operating.copying import copy_model
from surgery.operating.example import Example, call_with
from surgery.operating.modes import restored_modes
from surgery.operating.operation import Fault, operate, proposed
from surgery.operating.undo import Snapshot, preserved, written_back
from surgery.operating.verify import MAGNIFIED, BatchCheck, broken_promise, same_within
from surgery.record import Edit, Plan, Refusal, Report
from surgery.rule import Promise, Rule, Stage
from surgery.warm_start import DEFAULT, WarmStart

# What one rule leaves may be what another one takes; a model is settled when a pass edits nothing.
MAX_PASSES = 4


def lite(
    model: nn.Module,
    rules: Literal["default"] | Sequence[str | Rule] = "default",
    example_inputs: Any = None,
    calibration: Iterable[Tensor] | None = None,
    sites: Sites | None = None,
    warm_start: WarmStart = DEFAULT,
) -> tuple[nn.Module, Report]:
    """A lite copy of ``model`` and the report of what was done and declined; ``model`` itself is left as it was.

    ``rules`` are names or rules of your own, or "default". With ``example_inputs`` (a tensor, a tuple of positional or
    a dict of keyword inputs) the model is run, so that calls in every module's forward are found and each rule's
    promise is checked on the spot; a site where it does not hold is left and refused with the reason. With
    ``calibration`` (batches of model inputs, iterated several times) removed gates become their mean and BatchNorm
    statistics are measured anew. ``sites`` are the places where a rule may act, by the rule's name: those that its
    edits carry, not the modules inside of them; a rule that is not in it acts wherever it matches. ``warm_start``
    switches off parts of what replaced layers start from.

    Raises SurgeryError where a name is no rule, a named rule changes nothing, sites are given for a rule that is not
    applied, the model fails on its inputs or is one that cannot be operated on.
    """
    chosen, named = choose(rules)
    return apply_rules(model, chosen, named, example_inputs, calibration, sites, warm_start)


def apply_rules(
    model: nn.Module,
    chosen: Sequence[Rule],
    named: bool,
    example_inputs: Any,
    calibration: Iterable[Tensor] | None,
    sites: Sites | None = None,
    warm_start: WarmStart = DEFAULT,
) -> tuple[nn.Module, Report]:
    """``lite`` with rules in the order given; ``named``: each has to edit something, and cleanup acts by itself."""
    require_sites(sites, chosen)
    if not isinstance(warm_start, WarmStart):
        raise SurgeryError(f"warm_start is a {type(warm_start).__name__}; give a surgery.WarmStart")
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]), _no_collection():
        batches = _batches(calibration)
        return _apply(model, chosen, named, Example.of(example_inputs), batches, sites or {}, warm_start)


def proposals(
    model: nn.Module, rules: Sequence[str | Rule], example_inputs: Any, calibration: Iterable[Tensor] | None = None
) -> dict[str, tuple[Edit | Refusal, ...]]:
    """What each of the rules would do to the model as it is and what it declines, by the rule's name; nothing is done.

    Raises SurgeryError as ``lite`` does.
    """
    chosen, _ = choose(rules)
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]), _no_collection():
        evidence = _run_once(model, Example.of(example_inputs), _batches(calibration))
        return {rule.name: tuple(_proposed(rule, evidence)) for rule in chosen}


def _proposed(rule: Rule, evidence: Evidence) -> list[Edit | Refusal]:
    try:
        return proposed(rule, evidence)
    except Exception as error:  # rules are open to others' code
        return [Refusal(rule.name, "", f"the rule fails: {one_line(error)}")]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Each collection would walk through all that surgery holds of the model and free next to nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _apply(
    model: nn.Module,
    chosen: Sequence[Rule],
    named: bool,
    example: Example | None,
    batches: Iterable[Any] | None,
    sites: Sites,
    warm_start: WarmStart,
) -> tuple[nn.Module, Report]:
    start = perf_counter()
    evidence = _run_once(model, example, batches, warm_start)
    unedited = Snapshot(evidence.model)
    edits, refusals = _settle(chosen, named, evidence, sites)
    wrong, fault = _look_at_all(unedited, edits, evidence)
    if wrong:  # each edit held by itself, together they do not: find the ones to leave
        running = evidence.running_seconds
        evidence = _run_once(model, example, batches, warm_start)
        evidence.running_seconds += running
        unedited = Snapshot(evidence.model)
        edits, refusals = _settle(chosen, named, evidence, sites, fault)
        wrong, _ = _look_at_all(unedited, edits, evidence)
    if wrong:
        raise SurgeryError(f"the edits do not hold together: {wrong}; name the rules to apply one by one")
    if named:
        require_edits(chosen, edits, refusals)
    work = evidence.model
    after = fingerprint(work)
    plan = Plan(fingerprint(model), after, tuple(edits), example.describe() if example else None)
    if warm_start.statistics and any(edit.promise == Promise.SAME_SHAPE for edit in edits):
        reestimate_batchnorm(work, () if batches is None else batches)
    left = left_alone(evidence, chosen, named, sites, refusals)
    return work, Report(plan, tuple(refusals), left, perf_counter() - start, evidence.running_seconds, warm_start)


def _batches(calibration: Iterable[Any] | None) -> Iterable[Any] | None:
    """Something that can be read more than once. Raises SurgeryError where it is no collection of batches."""
    if calibration is None or not isinstance(calibration, Iterable):
        if calibration is None:
            return None
        raise SurgeryError(f"calibration is a {type(calibration).__name__}; give a list of batches of model inputs")
    if isinstance(calibration, Tensor):
        return [calibration]
    return list(calibration) if isinstance(calibration, Iterator) else calibration


def _run_on_calibration(model: nn.Module, batches: Iterable[Any] | None) -> None:
    """Say at once where the model does not take the batches."""
    try:
        with preserved(model), restored_modes(model), torch.no_grad():
            for batch in islice(() if batches is None else batches, 1):
                call_with(model.eval(), batch)
    except Exception as error:  # the model's own forward may raise anything
        cure = "a batch holds the model's inputs and nothing else"
        raise SurgeryError(f"the model fails on a calibration batch: {one_line(error)}; {cure}") from error


def _settle(
    chosen: Sequence[Rule], named: bool, evidence: Evidence, sites: Sites, fault: Fault | None = None
) -> tuple[list[Edit], list[Refusal]]:
    """Apply the rules in their order until a pass edits nothing."""
    _run_on_calibration(evidence.model, evidence.calibration)
    edits: list[Edit] = []
    failed: list[Refusal] = []
    refusals: dict[str, tuple[Refusal, ...]] = {}
    for _ in range(MAX_PASSES):
        before = len(edits)
        for rule in chosen:
            if rule.stage is Stage.CLEANUP and not edits and not named:
                continue
            outcome = operate(rule, evidence, [*edits, *failed], fault, sites.get(rule.name))
            edits += outcome.edits
            failed += outcome.failed
            refusals[rule.name] = outcome.refusals
        if len(edits) == before:
            break
    return edits, list(dict.fromkeys([r for found in refusals.values() for r in found] + failed))


def _run_once(
    model: nn.Module, example: Example | None, batches: Iterable[Any] | None, warm_start: WarmStart = DEFAULT
) -> Evidence:
    """Evidence of a copy of the model that has run on the example: the model itself is never run."""
    evidence = Evidence(copy_model(model), example, batches, warm_start)
    try:
        evidence.observation()
    except Exception as error:  # the model's own forward may raise anything
        raise SurgeryError(f"the model fails on the example inputs: {one_line(error)}") from error
    written_back(zip(evidence.model.parameters(), model.parameters(), strict=True))
    return evidence


def _look_at_all(unedited: Snapshot, edits: Sequence[Edit], evidence: Evidence) -> tuple[str | None, Fault]:
    """What is wrong with the edited model as a whole, and what else to look at after each edit in that case."""
    if not edits or evidence.example is None:
        return None, _no_fault
    batch = BatchCheck(evidence.model, unedited, evidence.example) if evidence.decided else _no_fault
    promise = Promise.SAME_OUTPUT if all(e.promise == Promise.SAME_OUTPUT for e in edits) else Promise.SAME_SHAPE
    before = evidence.first_output
    try:
        after = evidence.observation()
    except Exception as error:  # each edit held, so this is about how they meet
        return one_line(error), batch
    within = MAGNIFIED * same_within([before, evidence.example.args, evidence.example.kwargs])
    wrong = broken_promise(promise, before, after.output if after else None, "the model's output", within)
    return wrong or batch(evidence.model), batch


def _no_fault(model: nn.Module) -> None:
    return None
