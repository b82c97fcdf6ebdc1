"""Apply rules to a copy of a model, look at the result after each, and keep what held its promise."""

import gc
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from time import perf_counter
from typing import Any, Literal

import torch
from torch import Tensor, nn

from surgery.batchnorm import reestimate_batchnorm
from surgery.errors import SurgeryError, one_line
from surgery.fingerprint import fingerprint
from surgery.observing.evidence import Evidence
from surgery.operating.copying import copy_model
from surgery.operating.example import Example, call_with
from surgery.operating.modes import restored_modes
from surgery.operating.operation import Fault, operate
from surgery.operating.undo import preserved
from surgery.operating.verify import BatchCheck, broken_promise
from surgery.record import Edit, LeftAlone, Plan, Refusal, Report
from surgery.registry import rules as all_rules
from surgery.rule import Promise, Rule, Stage

# Calls that no rule is about, told to the user: they move data across the whole image or sort it.
REPORTED = frozenset({"roll", "grid_sample", "unfold", "fold", "topk", "sort", "argsort", "fft2", "rfft2", "irfft2"})
# What one rule leaves may be what another one takes; a model is settled when a pass edits nothing.
MAX_PASSES = 4


def lite(
    model: nn.Module,
    rules: Literal["default"] | Sequence[str | Rule] = "default",
    example_inputs: Any = None,
    calibration: Iterable[Tensor] | None = None,
) -> tuple[nn.Module, Report]:
    """A lite copy of ``model`` and the report of what was done and declined; ``model`` itself is left as it was.

    ``rules`` are names or rules of your own, or "default". With ``example_inputs`` (a tensor, a tuple of positional or
    a dict of keyword inputs) the model is run, so that calls in every module's forward are found and each rule's
    promise is checked on the spot; a site where it does not hold is left and refused with the reason. With
    ``calibration`` (batches of model inputs, iterated several times) removed gates become their mean and BatchNorm
    statistics are measured anew.

    Raises SurgeryError where a name is no rule, a named rule changes nothing, the model fails on its inputs or is one
    that cannot be operated on.
    """
    chosen, named = _choose(rules)
    return apply_rules(model, chosen, named, example_inputs, calibration)


def apply_rules(
    model: nn.Module, chosen: Sequence[Rule], named: bool, example_inputs: Any, calibration: Iterable[Tensor] | None
) -> tuple[nn.Module, Report]:
    """``lite`` with rules in the order given; ``named``: each has to edit something, and cleanup acts by itself."""
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]), _no_collection():
        return _apply(model, chosen, named, Example.of(example_inputs), _batches(calibration))


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
    model: nn.Module, chosen: Sequence[Rule], named: bool, example: Example | None, batches: Iterable[Any] | None
) -> tuple[nn.Module, Report]:
    start = perf_counter()
    evidence = Evidence(copy_model(model), example, batches)
    edits, refusals = _settle(chosen, named, evidence)
    wrong, fault = _look_at_all(model, edits, evidence)
    if wrong:  # each edit held by itself, together they do not: find the ones to leave
        running = evidence.running_seconds
        evidence = Evidence(copy_model(model), example, batches)
        evidence.running_seconds = running
        edits, refusals = _settle(chosen, named, evidence, fault)
        wrong, _ = _look_at_all(model, edits, evidence)
    if wrong:
        raise SurgeryError(f"the edits do not hold together: {wrong}; name the rules to apply one by one")
    if named:
        _require_edits(chosen, edits, refusals)
    work = evidence.model
    after = fingerprint(work)
    plan = Plan(fingerprint(model), after, tuple(edits), example.describe() if example else None)
    if any(edit.promise == Promise.SAME_SHAPE for edit in edits):
        reestimate_batchnorm(work, () if batches is None else batches)
    left = _left_alone(evidence)
    return work, Report(plan, tuple(refusals), left, perf_counter() - start, evidence.running_seconds)


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


def _left_alone(evidence: Evidence) -> tuple[LeftAlone, ...]:
    observation = evidence.observation()
    counts = Counter(
        (c.module, c.function) for c in (observation.calls if observation else ()) if c.function in REPORTED
    )
    return tuple(LeftAlone(site, call, count) for (site, call), count in counts.items())


def _settle(
    chosen: Sequence[Rule], named: bool, evidence: Evidence, fault: Fault | None = None
) -> tuple[list[Edit], list[Refusal]]:
    """Apply the rules in their order until a pass edits nothing."""
    _run_once(evidence)
    _run_on_calibration(evidence.model, evidence.calibration)
    edits: list[Edit] = []
    failed: list[Refusal] = []
    refusals: dict[str, tuple[Refusal, ...]] = {}
    for _ in range(MAX_PASSES):
        before = len(edits)
        for rule in chosen:
            if rule.stage is Stage.CLEANUP and not edits and not named:
                continue
            outcome = operate(rule, evidence, [*edits, *failed], fault)
            edits += outcome.edits
            failed += outcome.failed
            refusals[rule.name] = outcome.refusals
        if len(edits) == before:
            break
    return edits, list(dict.fromkeys([r for found in refusals.values() for r in found] + failed))


def _run_once(evidence: Evidence) -> None:
    try:
        evidence.observation()
    except Exception as error:  # the model's own forward may raise anything
        raise SurgeryError(f"the model fails on the example inputs: {one_line(error)}") from error


def _look_at_all(model: nn.Module, edits: Sequence[Edit], evidence: Evidence) -> tuple[str | None, Fault]:
    """What is wrong with the edited model as a whole, and what else to look at after each edit in that case."""
    if not edits or evidence.example is None:
        return None, _no_fault
    batch = BatchCheck(model, evidence.example) if evidence.decided else _no_fault
    promise = Promise.SAME_OUTPUT if all(e.promise == Promise.SAME_OUTPUT for e in edits) else Promise.SAME_SHAPE
    before = evidence.first_output
    try:
        after = evidence.observation()
    except Exception as error:  # each edit held, so this is about how they meet
        return one_line(error), batch
    wrong = broken_promise(promise, before, after.output if after else None, "the model's output")
    return wrong or batch(evidence.model), batch


def _no_fault(model: nn.Module) -> None:
    return None


def _choose(names: Literal["default"] | Sequence[str | Rule]) -> tuple[list[Rule], bool]:
    known = all_rules()
    if isinstance(names, str):
        if names == "default":
            return [rule for rule in known.values() if rule.default], False
        raise SurgeryError(f"rules must be 'default' or a list of names, not {names!r}")
    if isinstance(names, Mapping) or not isinstance(names, Iterable):
        cure = "a replacement dictionary goes to convert_to_lite_fx" if isinstance(names, Mapping) else "give a list"
        raise SurgeryError(
            f"rules must be 'default' or a list of names and rules, not a {type(names).__name__}; {cure}"
        )
    names = list(names)
    if wrong := [each for each in names if not isinstance(each, str | Rule) or not getattr(each, "name", "it")]:
        raise SurgeryError(f"rules must be names or Rule instances, not {', '.join(map(repr, wrong))}")
    if unknown := [name for name in names if isinstance(name, str) and name not in known]:
        raise SurgeryError(f"no rule named {', '.join(map(repr, unknown))}; known: {', '.join(sorted(known))}")
    own = [rule for rule in names if isinstance(rule, Rule)]
    chosen = [rule for name, rule in known.items() if name in names] + own
    return sorted(chosen, key=lambda rule: rule.stage), True


def _require_edits(chosen: Sequence[Rule], edits: Sequence[Edit], refusals: Sequence[Refusal]) -> None:
    done = {edit.rule for edit in edits}
    idle = []
    for rule in chosen:
        if rule.name not in done:
            why = next((f"{r.site}: {r.reason}" for r in refusals if r.rule == rule.name), "it matches no layer")
            idle.append(f"{rule.name} ({why})")
    if idle:
        raise SurgeryError(f"named rules changed nothing: {'; '.join(idle)}; take them off the list")
