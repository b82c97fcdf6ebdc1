"""One file's content with the line of everything in it, and how files, places and values are shown in messages."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import Problem

Location = tuple[str | int, ...]  # keys and list indices, from the document's root


@dataclass(frozen=True)
class Document:
    """One file's content and where each part of it stands."""

    file: str  # as shown to the user: relative to the checkout
    data: Mapping[str, Any]
    lines: Mapping[Location, int]  # one-based

    def line(self, location: Location) -> int:
        """Line of a key or list item; of the nearest mapping around it where it is not in the file."""
        while location not in self.lines:
            location = location[:-1]
        return self.lines[location]

    def problem(self, location: Location, fact: str, cure: str = "") -> Problem:
        return Problem(self.file, self.line(location), dotted(location), fact, cure)


def dotted(location: Location) -> str:
    """``tasks.classification.train`` or ``surgery.rules[2]``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else ("." if text else "") + shown(part)
    return text


def shown(value: object) -> str:
    """A value as it may stand in a one-line message: short, and no control characters."""
    text = str(value)
    printable = text if text.isprintable() else ascii(text)[1:-1]
    return printable if len(printable) <= 60 else printable[:57] + "..."


def shown_path(path: Path, root: Path) -> str:
    below = path if root == Path(path.anchor) else path.relative_to(root)  # an absolute path keeps its slash
    text = below.as_posix()
    return text if text.isprintable() else ascii(text)[1:-1]
