"""What a profile may say of a node in one mapping, all of which must hold, and the limits made of such conditions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

from pydantic import model_validator

from zoo.config import Config
from zoo.graph.view import Node
from zoo.targets.decided import every, some
from zoo.targets.limit import Severity
from zoo.targets.wording import either

_MEANS: Mapping[Severity, str] = {"error": "not supported", "warning": "not validated", "cost": "slow or less exact"}


class Aspect(NamedTuple):
    """One field of a condition: whether a node is as it says, what it asks for and what a node has, in words."""

    holds: Callable[[Node, Any], bool]
    asked: Callable[[Any], str]
    found: Callable[[Node], str]


class Condition(Config):
    """Fields that are left out ask nothing. ``holds`` of all others: NotKnown where none is false and one not known."""

    aspects: ClassVar[Mapping[str, Aspect]]  # by field

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.said:
            raise ValueError(f"a condition must say at least one of {either(sorted(self.aspects))}")
        return self

    @property
    def said(self) -> tuple[str, ...]:
        """The fields that ask something."""
        return tuple(field for field in self.aspects if getattr(self, field) is not None)

    def holds(self, node: Node) -> bool:
        """Whether the node is as the condition says. Raises NotKnown."""
        return every(partial(self.aspects[field].holds, node, getattr(self, field)) for field in self.said)

    def __str__(self) -> str:
        return ", ".join(self.aspects[field].asked(getattr(self, field)) for field in self.said)


def forbidden(node: Node, when: Condition, severity: Severity) -> str | None:
    """What a node has that meets a condition it must not meet, and what that means. Raises NotKnown."""
    return f"{_found(node, [when])}; {_MEANS[severity]}: {when}" if when.holds(node) else None


def allowed(node: Node, when: Condition | None, only: Sequence[Condition]) -> str | None:
    """What a node has that meets ``when`` but none of ``only``. Raises NotKnown."""
    met = [partial(condition.holds, node) for condition in only]
    if not every([*([partial(when.holds, node)] if when else []), lambda: not some(met)]):
        return None
    where = f"where {when}, " if when else ""
    return f"{_found(node, [*([when] if when else []), *only])}; {where}only {'; or '.join(map(str, only))}"


def _found(node: Node, conditions: Iterable[Condition]) -> str:
    words = [condition.aspects[field].found(node) for condition in conditions for field in condition.said]
    return ", ".join(dict.fromkeys(word for word in words if word))
