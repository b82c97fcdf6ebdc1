"""Operators that share an entry: ``Sin, Cos: {...}`` says of both what each would say by itself."""

from collections.abc import Mapping
from typing import Any

from zoo.errors import Problem
from zoo.reading.document import Document, Location, shown


def apart(document: Document) -> tuple[Document, list[Problem]]:
    """The document with an entry for each operator, and the operators that have two."""
    operators = document.data.get("operators")
    if not isinstance(operators, Mapping):
        return document, []
    entries: dict[str, Any] = {}
    lines = {location: line for location, line in document.lines.items() if location[:1] != ("operators",)}
    lines[("operators",)] = document.line(("operators",))
    inside: dict[str, list[Location]] = {}
    for location in document.lines:
        if location[:1] == ("operators",) and len(location) > 1:
            inside.setdefault(str(location[1]), []).append(location)
    problems = []
    for names, operator in operators.items():
        for name in _names(names):
            if name in entries:
                fact = f"listed twice, first on line {lines[('operators', name)]}"
                place = document.line(("operators", names))
                problems.append(Problem(document.file, place, f"operators.{shown(name)}", fact, "remove one"))
                continue
            entries[name] = operator
            lines |= {("operators", name, *each[2:]): document.lines[each] for each in inside[names]}
    return Document(document.file, {**document.data, "operators": entries}, lines), problems


def _names(names: str) -> list[str]:
    return [name.strip() for name in names.split(",")]
