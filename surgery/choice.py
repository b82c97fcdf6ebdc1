"""Which rules are applied, and where they may act."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

from surgery.errors import SurgeryError
from surgery.record import Edit, Refusal
from surgery.registry import rules as all_rules
from surgery.rule import Rule

Sites = Mapping[str, Collection[str]]  # rule -> where it may act


def choose(names: Literal["default"] | Sequence[str | Rule]) -> tuple[list[Rule], bool]:
    """The rules in the order of their turn, and whether they are named. Raises SurgeryError for what is no rule."""
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


def require_edits(chosen: Sequence[Rule], edits: Sequence[Edit], refusals: Sequence[Refusal]) -> None:
    """Raises SurgeryError where one of the rules edited nothing."""
    done = {edit.rule for edit in edits}
    idle = []
    for rule in chosen:
        if rule.name not in done:
            why = next((f"{r.site}: {r.reason}" for r in refusals if r.rule == rule.name), "it matches no layer")
            idle.append(f"{rule.name} ({why})")
    if idle:
        raise SurgeryError(f"named rules changed nothing: {'; '.join(idle)}; take them off the list")


def require_sites(sites: Sites | None, chosen: Sequence[Rule]) -> None:
    """Raises SurgeryError where sites are not names by rule, or are of a rule that is not applied."""
    if sites is None:
        return
    if not isinstance(sites, Mapping):
        raise SurgeryError(f"sites are lists of module names by rule, not a {type(sites).__name__}")
    applied = {rule.name for rule in chosen}
    for name, places in sites.items():
        if name not in applied:
            raise SurgeryError(f"sites are given for rule {name!r}, which is not applied")
        if isinstance(places, str) or not all(isinstance(place, str) for place in places):
            raise SurgeryError(f"sites of rule {name} are a list of module names, not {places!r}")
