"""What a rule has ready when it proposes an edit, until the edit is made."""

from typing import Generic, TypeVar

from surgery.observing.nesting import is_within

Thing = TypeVar("Thing")


class Prepared(Generic[Thing]):
    """One thing for each rule and site. A change of the site, or around it, makes it worthless."""

    def __init__(self) -> None:
        self._things: dict[tuple[str, str], Thing] = {}

    def keep(self, rule: str, site: str, thing: Thing) -> None:
        """Hold it, in the place of an earlier one."""
        self._things[rule, site] = thing

    def take(self, rule: str, site: str) -> Thing | None:
        """What is held, once."""
        return self._things.pop((rule, site), None)

    def changed(self, name: str) -> None:
        """A module was changed: drop what is held for it and for all inside it."""
        self._things = {key: thing for key, thing in self._things.items() if not is_within(key[1], name)}
