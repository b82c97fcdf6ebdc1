"""Which rules could remove what a target refuses, and which of them to try first."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import surgery
from surgery import Edit, Refusal, Rule
from zoo.choosing.linted import Rejected

Place = tuple[str, str]  # a rule and a site
Proposals = Mapping[str, tuple[Edit | Refusal, ...]]  # by the rule
Order = Callable[[Rule], tuple[bool, int]]  # whether the target takes nothing of what a rule emits; how much it lacks

# Of an edit that rewrites calls in a module's own forward and nothing else.
_OWN_CALLS = frozenset({"rewrites", "trace"})


@dataclass(frozen=True)
class Pick:
    """A rule to try at a site, what it is to remove there, and the rules that come after it in turn."""

    rule: str
    site: str
    wanted: tuple[Rejected, ...]
    before: frozenset[str] = frozenset()

    @property
    def place(self) -> Place:
        """What tells picks apart."""
        return self.rule, self.site


def considered(rejected: Iterable[Rejected]) -> list[Rule]:
    """The rules that remove an operator that is refused and that the recipe does not leave."""
    operators = frozenset().union(*(each.operators for each in rejected if not each.left))
    return [rule for rule in surgery.rules().values() if rule.removes & operators]


def picks(
    rejected: Iterable[Rejected], proposals: Proposals, past: Collection[Place], order: Order
) -> tuple[Pick, ...]:
    """For each thing that is refused the first rule in turn that has a site for it.

    Exact rules come before others, then those that risk less, then those that emit less that the target does not list.
    """
    wanted: dict[Place, list[Rejected]] = {}
    passed_over: dict[Place, set[str]] = {}
    for each in rejected:
        found = sorted(_of(each, proposals, past, order))
        if found:
            place = found[0][-1]
            wanted.setdefault(place, []).append(each)
            passed_over.setdefault(place, set()).update(other[-1][0] for other in found[1:])
    return tuple(
        Pick(rule, site, tuple(each), frozenset(passed_over[rule, site] - {rule}))
        for (rule, site), each in wanted.items()
    )


def _of(
    rejected: Rejected, proposals: Proposals, past: Collection[Place], order: Order
) -> Iterable[tuple[int, int, int, Place]]:
    """What could remove one thing, in a form that sorts: first to last."""
    for rule in considered([rejected]):
        hopeless, lacking = order(rule)
        for proposal in proposals.get(rule.name, ()):
            place = (rule.name, proposal.site)
            if isinstance(proposal, Edit) and not hopeless and place not in past and concerns(proposal, rejected):
                yield int(rule.risk), lacking, -len(proposal.site), place


def concerns(proposal: Edit | Refusal, rejected: Rejected) -> bool:
    """Whether a rule's site is where something refused comes from: the layer itself or, of an edit that does more than
    rewrite a forward's own calls, what holds it."""
    if proposal.site == rejected.layer:
        return True
    if not rejected.exact and within(proposal.site, rejected.layer):
        return bool(rejected.layer)
    if isinstance(proposal, Edit) and "rewrites" in proposal.params and _OWN_CALLS.issuperset(proposal.params):
        return False
    return bool(proposal.site) and within(rejected.layer, proposal.site)


def within(name: str, outer: str) -> bool:
    """Whether a layer is another one or is inside it."""
    return not outer or name == outer or name.startswith(f"{outer}.")
