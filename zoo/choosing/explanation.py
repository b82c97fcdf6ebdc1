"""Why surgery for a target is what it is: each choice, each rule that did not help, and what is left."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from textwrap import wrap
from typing import Any

from zoo.linting.report import Finding, Summary
from zoo.linting.wording import counted, percent

SHOWN = 4  # sites that a line names
WIDTH = 110  # of a line


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
        shares = (_share("accelerated before", self.before), _share("accelerated after", self.after))
        lines = [f"surgery for {where}: {self._outcome()}", *shares, ""]
        lines += [line for choice in self.choices for line in _of_choice(choice)]
        if not self.choices:
            lines.append("no rule is applied")
        if self.followed:
            lines += ["", f"then, on what these leave behind: {', '.join(self.followed)}"]
        if self.dropped:
            lines += ["", "tried and taken back:"]
            lines += [f"  {text}" for text in _with_counts(f"{d.rule}: {d.why}" for d in self.dropped)]
        if self.left:
            lines += ["", "left:", *(f"  {text}" for text in _of_left(self.left))]
        lines += ["", self.stopped] if self.stopped else []
        return "\n".join(part for line in lines for part in _fitted(line))

    def _outcome(self) -> str:
        edits = sum(len(choice.sites) for choice in self.choices)
        rules = f"{counted(len(self.choices), 'rule')} at {counted(edits, 'site')}"
        chosen = rules if self.choices else "no rule helps" if self.left else "nothing to replace"
        if self.clean:
            return f"{chosen}; nothing is left that the target refuses"
        return f"{chosen}; {counted(len(self.left), 'finding')} left"


def _share(what: str, summary: Summary) -> str:
    nodes, macs = percent(summary.node_share), percent(summary.mac_share)
    return f"{what + ':':<19} {nodes} of nodes, {macs} of MACs in {counted(len(summary.subgraphs), 'subgraph')}"


def _fitted(line: str) -> list[str]:
    """A line as several that fit, the further ones further in; words are left whole."""
    if len(line) <= WIDTH:
        return [line]
    start = line[: len(line) - len(line.lstrip())]
    return wrap(line, WIDTH, subsequent_indent=f"{start}    ", break_long_words=False, break_on_hyphens=False)


def _of_choice(choice: Choice) -> list[str]:
    lines = [f"{choice.rule} ({choice.why}) at {named(choice.sites)}"]
    return [*lines, *(f"  removes {text}" for text in _with_counts(_fact(each) for each in choice.removed))]


def _fact(found: Finding) -> str:
    return f"{found.op}: {found.fact}"


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


def _with_counts(texts: Iterable[str]) -> list[str]:
    """Each text once, with how often it was there."""
    return [text if count == 1 else f"{count} x {text}" for text, count in Counter(texts).items()]


def named(sites: Sequence[str]) -> str:
    """The first few sites, for people."""
    shown = ", ".join(site or "(the model)" for site in sites[:SHOWN])
    return shown if len(sites) <= SHOWN else f"{shown} and {len(sites) - SHOWN} more"
