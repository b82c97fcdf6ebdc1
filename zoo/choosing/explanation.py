"""Why surgery for a target is what it is: each choice, each rule that did not help, and what is left."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from zoo.linting.report import Finding, Summary

SHOWN = 4  # sites that a line names


@dataclass(frozen=True)
class Choice:
    """A rule, the sites where it acts, and what the target has no longer against them."""

    rule: str
    sites: tuple[str, ...]
    promise: str  # same_output or same_shape
    why: str  # what it risks, and what was passed over for it
    removed: tuple[Finding, ...]


@dataclass(frozen=True)
class Dropped:
    """A rule that was tried at a site and taken back."""

    rule: str
    site: str
    why: str


@dataclass(frozen=True)
class Left:
    """What the target still refuses, and why no rule helps."""

    finding: Finding
    why: str


@dataclass(frozen=True)
class Explanation:
    """All of it. ``followed`` are exact rules that act on what the chosen ones leave behind."""

    target: str
    device: str  # "" for all of the target's
    choices: tuple[Choice, ...]
    followed: tuple[str, ...]
    dropped: tuple[Dropped, ...]
    left: tuple[Left, ...]
    rounds: int
    before: Summary
    after: Summary
    stopped: str = ""  # why no further round was made, where one might have helped

    @property
    def clean(self) -> bool:
        """Whether the target refuses nothing."""
        return not self.left

    @property
    def sites(self) -> Mapping[str, tuple[str, ...]]:
        """Where each chosen rule acts, as ``surgery.lite`` takes it."""
        return {choice.rule: choice.sites for choice in self.choices}

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules to apply."""
        return (*(choice.rule for choice in self.choices), *self.followed)

    def to_json(self) -> dict[str, Any]:
        """JSON values; shares beside the counts that they are of."""
        written = asdict(self)
        for key, summary in (("before", self.before), ("after", self.after)):
            shares = {"node_share": summary.node_share, "mac_share": summary.mac_share}
            written[key] |= shares | {"subgraphs": len(summary.subgraphs)}
        return written | {"clean": self.clean, "rules": list(self.rules)}

    def as_text(self) -> str:
        """What a person reads."""
        where = f"{self.target} {self.device}".strip()
        lines = [f"surgery for {where}: {self._outcome()}", *_share("accelerated", self.before, self.after), ""]
        lines += [line for choice in self.choices for line in _of_choice(choice)]
        if not self.choices:
            lines.append("no rule is applied")
        if self.followed:
            lines += ["", f"then, on what these leave behind: {', '.join(self.followed)}"]
        if self.dropped:
            lines += ["", "tried and taken back:"]
            lines += [f"  {text}" for text in _counted(f"{d.rule}: {d.why}" for d in self.dropped)]
        if self.left:
            lines += ["", "left:", *(f"  {text}" for text in _of_left(self.left))]
        return "\n".join([*lines, *(["", self.stopped] if self.stopped else [])])

    def _outcome(self) -> str:
        edits = sum(len(choice.sites) for choice in self.choices)
        chosen = f"{len(self.choices)} rules at {edits} sites" if self.choices else "nothing to replace"
        if self.clean:
            return f"{chosen}; nothing is left that the target refuses"
        return f"{chosen}; {len(self.left)} findings are left"


def _share(what: str, before: Summary, after: Summary) -> list[str]:
    def shown(summary: Summary) -> str:
        count = len(summary.subgraphs)
        return f"{summary.node_share:.1%} of nodes, {summary.mac_share:.1%} of MACs in {count} subgraphs"

    return [f"{what} before: {shown(before)}", f"{what} after:  {shown(after)}"]


def _of_choice(choice: Choice) -> list[str]:
    lines = [f"{choice.rule} ({choice.why}) at {named(choice.sites)}"]
    return [*lines, *(f"  removes {text}" for text in _counted(f"{each.op}: {each.fact}" for each in choice.removed))]


def _of_left(left: Iterable[Left]) -> list[str]:
    """A line for each limit that is broken for one and the same reason, with the first place where it is."""
    alike: dict[tuple[str, str, str], list[Finding]] = {}
    for each in left:
        alike.setdefault((each.finding.op, each.finding.limit, each.why), []).append(each.finding)
    lines = []
    for (op, limit, why), findings in alike.items():
        place = findings[0].module or findings[0].node or "the model"
        more = f" and {len(findings) - 1} more" if len(findings) > 1 else ""
        lines.append(f"{place}{more}: {op or limit}: {findings[0].fact}; {why}")
    return lines


def _counted(texts: Iterable[str]) -> list[str]:
    """Each text once, with how often it was there."""
    return [text if count == 1 else f"{count} x {text}" for text, count in Counter(texts).items()]


def named(sites: Sequence[str]) -> str:
    """The first few sites, for people."""
    shown = ", ".join(site or "(the model)" for site in sites[:SHOWN])
    return shown if len(sites) <= SHOWN else f"{shown} and {len(sites) - SHOWN} more"
