"""Targets that extend one another: from documents to whole targets, with every problem by file and line."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zoo.errors import InvalidInput, Problem, did_you_mean
from zoo.reading.document import Document, shown
from zoo.reading.validation import validate
from zoo.targets import mentions
from zoo.targets.apart import apart
from zoo.targets.target import Target

NAMED = ("operators", "patterns", "devices")  # by name: what is listed takes the place of the same name's
OWN = ("description", "sources", "extends", "removed")  # never taken from the extended target
# In place of an extended target that is wrong: its faults are told once, where they are.
STAND_IN: Mapping[str, Any] = {"opset": {"max": 18, "export": 18}, "operators": {}}


def resolve(documents: Mapping[str, Document], known: Collection[str]) -> tuple[dict[str, Target], list[Problem]]:
    """Whole targets by name, and what is wrong. ``known``: every name, those of files that cannot be read too."""
    resolving = _Resolving(documents, known)
    for name in documents:
        resolving.resolve(name)
    return resolving.targets, resolving.problems


@dataclass
class _Resolving:
    """What is known so far; only targets without any problem are in ``targets``."""

    documents: Mapping[str, Document]
    known: Collection[str]
    wholes: dict[str, Document] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def resolve(self, name: str) -> None:
        """Make one target of its document, and first of those that it extends."""
        if name in self.wholes:
            return
        document, found = apart(self.documents[name])
        found += self._of_extends(name, document)
        extended = self._extended(document)
        self.wholes[name] = whole = _merged(document, STAND_IN if extended is None else extended)
        try:
            target = validate(whole, Target)
        except InvalidInput as error:
            found += _once(error.problems)
        else:
            if extended is not None:
                found += [*_removals(document, extended), *_once(list(mentions.problems(whole, target)))]
                self.targets |= {} if found else {name: target}
        self.problems += found

    def _of_extends(self, name: str, document: Document) -> Iterator[Problem]:
        """Is the extended target one that can be?"""
        parent = document.data.get("extends")
        if not isinstance(parent, str):
            if parent is None and document.data.get("removed"):
                yield document.problem(("removed",), "stands beside no 'extends'", "add 'extends: ...'")
        elif parent not in self.known:
            cure = did_you_mean(parent, set(self.known) - {name}) or f"add configs/targets/{shown(parent)}.yaml"
            yield document.problem(("extends",), f"unknown target '{shown(parent)}'", cure)
        elif way := self._way_round(name):
            fact = f"extends itself: {' -> '.join(map(shown, way))}"
            yield document.problem(("extends",), fact, "remove one 'extends' of these")

    def _extended(self, document: Document) -> Mapping[str, Any] | None:
        """What the extended target says: nothing where there is none to be, None where it is wrong."""
        parent = document.data.get("extends")
        if parent is None:
            return {}
        if not isinstance(parent, str):
            return None
        if parent in self.documents and not self._way_round(parent):
            self.resolve(parent)
        return self.wholes[parent].data if parent in self.targets else None

    def _way_round(self, name: str) -> list[str]:
        """The way from a target back to itself; empty where there is none."""
        way = [name]
        while (document := self.documents.get(way[-1])) is not None:
            parent = document.data.get("extends")
            if not isinstance(parent, str) or parent in way[1:]:
                return []
            way.append(parent)
            if parent == name:
                return way
        return []


def _merged(document: Document, extended: Mapping[str, Any]) -> Document:
    """The document with what it takes from the extended target; lines are its own."""
    own = document.data
    gone = {name for name in _list(own.get("removed")) if isinstance(name, str)}
    whole = {part: value for part, value in extended.items() if part not in OWN} | dict(own)
    for part in NAMED:
        theirs = {name: value for name, value in extended.get(part, {}).items() if name not in gone}
        if part in extended and isinstance(own.get(part, {}), Mapping):
            whole[part] = theirs | dict(own.get(part, {}))
    if isinstance(cited := own.get("sources"), list) and cited:  # what is taken keeps its sources
        whole["sources"] = cited + [each for each in extended.get("sources", []) if each not in cited]
    return Document(document.file, whole, document.lines)


def _removals(document: Document, extended: Mapping[str, Any]) -> Iterator[Problem]:
    """Names that cannot be removed."""
    parent = document.data.get("extends")
    theirs = {name for part in NAMED for name in extended.get(part, {})}
    own = {name for part in NAMED for name in document.data.get(part, {})}
    for index, name in enumerate(document.data.get("removed", ()) if parent else ()):
        if name not in theirs:
            cure = did_you_mean(name, theirs) or "remove it"
            yield document.problem(("removed", index), f"{parent} has no '{shown(name)}'", cure)
        elif name in own:
            yield document.problem(("removed", index), f"'{shown(name)}' is removed and listed", "keep one of them")


def _once(problems: Sequence[Problem]) -> list[Problem]:
    """What is wrong in an entry that several operators share, once."""
    return list({(each.line, each.path.rpartition(".")[2], each.fact): each for each in reversed(problems)}.values())


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
