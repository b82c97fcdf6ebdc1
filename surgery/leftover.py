"""What is left when all rules are through: what really runs is compared with what they did and declined."""

from collections import Counter
from collections.abc import Iterator, Sequence
from time import perf_counter

from torch import nn

from surgery.choice import Sites
from surgery.observing.evidence import Evidence
from surgery.observing.nesting import is_within
from surgery.observing.unfriendly import ACTIVATIONS, NORMALIZATIONS, SHUFFLES, Fault, unfriendly
from surgery.observing.written import written_names
from surgery.operating.undo import preserved
from surgery.record import LeftAlone, Refusal
from surgery.rule import Rule

# Calls that no rule is about: they move data across the whole image or sort it.
REPORTED = frozenset({"roll", "grid_sample", "unfold", "fold", "topk", "sort", "argsort", "fft2", "rfft2", "irfft2"})

NO_RULE = "no rule is about it"
UNMATCHED = "no rule matched it here"
VOLUME = "it works on volumes, and the rules on images and sequences"
IN_TRAINING = "it is written beside `training` and did not run in eval mode"


def left_alone(
    evidence: Evidence, rules: Sequence[Rule], named: bool, sites: Sites, refusals: Sequence[Refusal]
) -> tuple[LeftAlone, ...]:
    """Everything unfriendly of which neither an edit nor a refusal tells, module by module; nothing without a run.

    Where rules are ``named``, what is none of theirs is left on purpose, and so is what ``sites`` keep them from.
    """
    observation = evidence.observation()
    if observation is None:
        return ()
    moved = [(call.module, call.function, NO_RULE) for call in observation.calls if call.function in REPORTED]
    about = {rule.name: frozenset(name.strip("_") for name in rule.removes) for rule in rules}
    asked = named or not any(about.values())  # for particular edits, not for all that can be done
    found = [*moved]
    for fault in _faults(evidence):
        takers = [name for name, removes in about.items() if fault.name in removes]
        on_purpose = any(name in sites for name in takers) or (asked and not takers)
        if not on_purpose and not _is_told(fault, about, refusals):
            reason = VOLUME if fault.volume else UNMATCHED if takers else NO_RULE
            found.append((fault.module, fault.operator, reason))
    counts = Counter(found)
    ran = [LeftAlone(site, call, count, reason) for (site, call, reason), count in counts.items()]
    return (*ran, *(() if asked else _in_training(evidence)))


def _faults(evidence: Evidence) -> list[Fault]:
    assert evidence.example is not None
    start, given, model = perf_counter(), evidence.example.copy(), evidence.model
    with preserved(model):
        found = unfriendly(model, given.args, given.kwargs)
    evidence.running_seconds += perf_counter() - start
    return found


def _is_told(fault: Fault, about: dict[str, frozenset[str]], refusals: Sequence[Refusal]) -> bool:
    """Whether a rule about this operator says why it left the module, or what holds it."""
    return any(is_within(fault.module, each.site) and fault.name in about.get(each.rule, ()) for each in refusals)


def _in_training(evidence: Evidence) -> Iterator[LeftAlone]:
    """Calls that a forward may make in train mode alone, where no rule looks."""
    wanted = ACTIVATIONS | NORMALIZATIONS | SHUFFLES
    for name, module in evidence.modules():
        if evidence.has_run(name) and _knows_training(module):
            made = {call.function for call in evidence.calls(name)}
            for call in sorted(written_names(module) & wanted - made):
                # A layer of that name, such as `self.norm`, is no call.
                if not isinstance(getattr(module, call, None), nn.Module):
                    yield LeftAlone(name, call, 0, IN_TRAINING)


def _knows_training(module: nn.Module) -> bool:
    code = getattr(type(module).forward, "__code__", None)
    return code is not None and "training" in code.co_names and not type(module).__module__.startswith("torch.nn.")
