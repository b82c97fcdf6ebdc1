"""What tests of limits share: a limit as a profile writes it, and a node on either side of its border."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from zoo.graph.view import Node
from zoo.targets.limit import Limit
from zoo.targets.limits import AnyLimit

ANY_LIMIT: TypeAdapter[Limit] = TypeAdapter(AnyLimit)


@dataclass(frozen=True)
class Case:
    """``fact`` is a part of what the limit says of the node that breaks it."""

    limit: Mapping[str, Any]
    held: Callable[[], Node]
    broken: Callable[[], Node]
    fact: str

    def __str__(self) -> str:
        return f"{self.limit['kind']}-{self.fact[:40]}"


def limit(said: Mapping[str, Any]) -> Limit:
    return ANY_LIMIT.validate_python(said)


def check(case: Case) -> None:
    asked = limit(case.limit)
    assert asked.broken(case.held()) is None
    found = asked.broken(case.broken())
    assert found is not None
    assert case.fact in found
    assert "\n" not in found
