"""What surgery did and did not do, and the plan that does it again. All of it is JSON."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from surgery.errors import PlanMismatch
from surgery.warm_start import DEFAULT, WarmStart

FORMAT = 2


class Promise(StrEnum):
    """What a rule preserves."""

    SAME_OUTPUT = "same_output"  # numerically equal in eval mode, no retraining
    SAME_SHAPE = "same_shape"  # needs fine-tuning


@dataclass(frozen=True)
class Edit:
    """One change. ``params`` with the rule's name and the site are enough to make it again."""

    rule: str
    site: str  # qualified name of the module that changed; "" is the model itself
    action: str  # for people: "SiLU -> ReLU"
    promise: str  # same_output or same_shape
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """A site that a rule matched, or may have matched, and left as it was."""

    rule: str
    site: str
    reason: str


@dataclass(frozen=True)
class LeftAlone:
    """Calls that devices may be slow at or lack, that still run, and of which no refusal tells."""

    site: str  # the module whose own forward makes them
    call: str
    count: int  # 0: not in eval mode
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """The edits in order, between two fingerprints: of the model before and of the model after.

    ``example`` describes the example inputs (shapes and dtypes), because edits that were made with them need them again
    on replay.
    """

    before: str
    after: str
    edits: tuple[Edit, ...]
    example: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object; its inverse is ``from_json``."""
        return {
            "format": FORMAT,
            "before": self.before,
            "after": self.after,
            "edits": [asdict(edit) for edit in self.edits],
            "example": self.example,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Plan":
        """Raises PlanMismatch when the object is not a plan of this format."""
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            found = data.get("format") if isinstance(data, Mapping) else type(data).__name__
            raise PlanMismatch(f"this is not a surgery plan of format {FORMAT} (found {found!r})")
        try:
            edits = tuple(Edit(**edit) for edit in data["edits"])
            return cls(str(data["before"]), str(data["after"]), edits, data["example"])
        except (KeyError, TypeError, ValueError) as error:
            raise PlanMismatch(f"the surgery plan is damaged: {type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Report:
    """Everything that surgery did (the plan's edits) and declined (refusals)."""

    plan: Plan
    refusals: tuple[Refusal, ...] = ()
    left_alone: tuple[LeftAlone, ...] = ()
    seconds: float = field(default=0.0, compare=False)  # all of it
    running_seconds: float = field(default=0.0, compare=False)  # running the example inputs, part of seconds
    warm_start: WarmStart = DEFAULT  # what replaced layers were to start from

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The edits, in the order they were made."""
        return self.plan.edits

    @property
    def is_lite(self) -> bool:
        """Whether anything was edited at all."""
        return bool(self.plan.edits)

    @property
    def same_output(self) -> bool:
        """Whether every edit promises numerically equal outputs."""
        return all(edit.promise == "same_output" for edit in self.edits)

    def by_rule(self) -> dict[str, int]:
        """Number of edits of each rule."""
        return dict(Counter(edit.rule for edit in self.edits))

    def to_json(self) -> dict[str, Any]:
        """A JSON object for people and tools; the plan itself is stored apart."""
        return {
            "edits": [{"rule": e.rule, "site": e.site, "action": e.action, "promise": e.promise} for e in self.edits],
            "refusals": [asdict(refusal) for refusal in self.refusals],
            "left_alone": [asdict(left) for left in self.left_alone],
            "by_rule": self.by_rule(),
            "warm_start": asdict(self.warm_start),
        }
