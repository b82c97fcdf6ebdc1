"""YAML without surprises: one mapping per file, plain values, and the line of everything in it.

Refused, with line and cure: duplicate keys, tags, anchors and aliases (hence alias bombs), several documents, control
characters, anything but UTF-8, large files, deep nesting, and plain values that YAML 1.1 and 1.2 read differently
(``yes``, ``4e-5``, ``1:30``, ``2026-01-31``, ``010``): an editor and this program must not disagree on a recipe.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from zoo.errors import InvalidInput, Problem
from zoo.reading import plain_values
from zoo.reading.document import Document, Location, dotted, shown, shown_path

MAX_BYTES = 64 * 1024
MAX_DEPTH = 20
MAX_PROBLEMS = 20  # of one file; more would bury the first

NO_ALIASES = ("anchors and aliases are not supported", "repeat the value")

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Tabs and line breaks aside: C0 and C1 controls, breaks that only YAML counts as lines, text-direction overrides.
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufffe\uffff]")


def load(path: Path, root: Path) -> Document:
    """Read one file below the checkout ``root``.

    Raises InvalidInput holding every problem found in the file.
    """
    file = shown_path(path, root)
    return parse(_read(path, file), file)


def parse(text: str, file: str) -> Document:
    """Parse a document's text; ``file`` is the name that problems carry."""
    if hidden := UNPRINTABLE.search(text):
        line = text.count("\n", 0, hidden.start()) + 1
        raise _refusal(file, line, f"control character U+{ord(hidden[0]):04X}", "remove it")
    builder = _Builder(file)
    try:
        for event in _events(text):
            builder.add(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        builder.refuse(mark.line + 1 if mark else 1, (), f"not YAML: {shown(error.problem)}", _syntax_cure(text, mark))
    except yaml.YAMLError as error:
        builder.refuse(1, (), f"not YAML: {shown(error)}")
    except _Stop:
        pass
    if builder.problems:
        raise InvalidInput(builder.problems)
    if not isinstance(builder.root, dict):
        raise _refusal(file, 1, "the file is not a mapping", "write 'field: value' lines")
    return Document(file, builder.root, builder.lines)


class _Stop(Exception):
    """Reading on would find nothing useful."""


@dataclass
class _Frame:
    """A mapping or list under construction."""

    node: dict[str, Any] | list[Any]
    location: Location
    key: str | None = None  # a mapping's key that awaits its value


@dataclass
class _Builder:
    """Makes plain data of parser events, without recursion, collecting problems as it goes."""

    file: str
    root: Any = None
    lines: dict[Location, int] = field(default_factory=lambda: {(): 1})
    problems: list[Problem] = field(default_factory=list)
    frames: list[_Frame] = field(default_factory=list)
    documents: int = 0

    def add(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._open(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self.frames.pop()
        elif isinstance(event, yaml.AliasEvent):
            self.refuse(_line(event), self._here(), *NO_ALIASES)
            self._place(None, event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self.refuse(_line(event), (), "a second document", "one file holds one document: remove the '---'")
                raise _Stop

    def refuse(self, line: int, location: Location, fact: str, cure: str = "") -> None:
        self.problems.append(Problem(self.file, line, dotted(location), fact, cure))
        if len(self.problems) >= MAX_PROBLEMS:
            raise _Stop

    def _scalar(self, event: Any) -> None:
        self._refuse_tag_and_anchor(event)
        value = event.value
        if event.implicit[0]:
            try:
                value = plain_values.read(value)
            except plain_values.Refused as refused:
                self.refuse(_line(event), self._here(), refused.fact, refused.cure)
        elif UNPRINTABLE.search(value):
            self.refuse(_line(event), self._here(), f"{shown(value)}: control character", "remove it")
        self._place(value, event)

    def _open(self, event: Any) -> None:
        self._refuse_tag_and_anchor(event)
        if len(self.frames) == MAX_DEPTH:
            self.refuse(_line(event), (), f"nested more than {MAX_DEPTH} levels deep", "flatten it")
            raise _Stop
        node: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        location = self._place(node, event)
        self.frames.append(_Frame(node, location))

    def _place(self, value: Any, event: Any) -> Location:
        """Put a value where it belongs, or take it as the next key; returns the value's location."""
        if not self.frames:
            self.root = value
            return ()
        frame = self.frames[-1]
        if isinstance(frame.node, list):
            location = (*frame.location, len(frame.node))
            self.lines[location] = _line(event)
            frame.node.append(value)
        elif frame.key is None:
            frame.key = self._key(frame, value, event)
            return frame.location
        else:
            location = (*frame.location, frame.key)
            frame.node[frame.key] = value
            frame.key = None
        return location

    def _key(self, frame: _Frame, value: Any, event: Any) -> str:
        if isinstance(value, dict | list):
            self.refuse(_line(event), frame.location, "a key that is a mapping or list", "write a name")
            raise _Stop
        if not isinstance(value, str):
            self.refuse(_line(event), frame.location, f"a key that is {shown(value)}, not text", "write a name")
            return str(value)
        location = (*frame.location, value)
        if value in frame.node:
            self.refuse(_line(event), location, f"duplicate key, first on line {self.lines[location]}", "remove one")
        else:
            self.lines[location] = _line(event)
        return value

    def _here(self) -> Location:
        """Location of the value that is being read."""
        if not self.frames:
            return ()
        frame = self.frames[-1]
        part = len(frame.node) if isinstance(frame.node, list) else frame.key
        return frame.location if part is None else (*frame.location, part)

    def _refuse_tag_and_anchor(self, event: Any) -> None:
        if event.tag is not None:
            tag = shown(event.tag.replace("tag:yaml.org,2002:", "!!"))
            self.refuse(_line(event), self._here(), f"tag {tag} is not supported", "remove it")
        if event.anchor is not None:
            self.refuse(_line(event), self._here(), *NO_ALIASES)


def _events(text: str) -> Iterator[Any]:
    """The parser's events. Composing is left to us: the library's recurses and keeps no duplicates."""
    parser = Loader(text)
    try:
        while parser.check_event():
            yield parser.get_event()
    finally:
        parser.dispose()


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _refusal(file: str, line: int, fact: str, cure: str) -> InvalidInput:
    return InvalidInput([Problem(file, line, "", fact, cure)])


def _syntax_cure(text: str, mark: Any) -> str:
    lines = text.splitlines()
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "indent with spaces, not tabs"
    return "check the indentation, the colons and the quotes of this line and the one before"


def _read(path: Path, file: str) -> str:
    try:
        if not path.is_file():  # a folder, a pipe, a dangling link
            raise _refusal(file, 1, "not a regular file", "remove it")
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise _refusal(file, 1, f"cannot be read: {error.strerror}", "check its permissions") from error
    if len(content) > MAX_BYTES:
        raise _refusal(file, 1, f"larger than {MAX_BYTES // 1024} KiB", "recipes and configs are short")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refusal(file, line, "not UTF-8", "save the file as UTF-8") from error
