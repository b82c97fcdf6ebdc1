"""What a step did, as the JSON it leaves: truth about what is built lies here, not in doit's database.

A record is written last and atomically. It holds what the step was made of (``inputs``; their digest is its ``key``)
and the size and SHA-256 of everything it wrote, so that a killed step has none and a damaged output does not match.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from zoo import atomic

NAME = "record.json"
MANY = 100  # files: to sync a generated dataset takes longer than to make it, and sizes show what a power cut took
NEVER_BUILT = "not built yet"

Inputs = Mapping[
    str, Any
]  # {"settings": ..., "upstream": {step: digest}, "code": digest, "libraries": {name: version}}

_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


class NoRecord(Exception):
    """There is no record that can be believed; the text says why."""


@dataclass(frozen=True)
class Output:
    """A file as the step left it."""

    size: int
    sha256: str
    mtime_ns: int


@dataclass(frozen=True)
class Record:
    """What a step did. ``outputs`` by path relative to the step's folder; ``started`` in ISO 8601."""

    step: str
    model: str
    key: str
    inputs: Inputs
    outputs: Mapping[str, Output]
    summary: Mapping[str, Any]
    seconds: float
    started: str
    peak_megabytes: int = 0  # largest resident memory of the step's own process

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the outputs' names and contents: what enters the keys of the steps after this one."""
        return _digest(self.outputs)

    def digest_without(self, paths: frozenset[str]) -> str:
        """The digest for a step that does not read these of the outputs."""
        if paths.isdisjoint(self.outputs):
            return self.digest
        return _digest({path: output for path, output in self.outputs.items() if path not in paths})


def _digest(outputs: Mapping[str, Output]) -> str:
    lines = (f"{path}\0{output.sha256}\n" for path, output in sorted(outputs.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def key_of(inputs: Inputs) -> str:
    """SHA-256 of the inputs as canonical JSON."""
    return hashlib.sha256(_canonical(inputs).encode()).hexdigest()


def describe(folder: Path, files: Iterable[Path]) -> dict[str, Output]:
    """Size, digest and time of a step's files, which are on the disk when this returns unless they are very many.

    Raises ValueError for a file outside of the folder and FileNotFoundError for one that is not there.
    """
    outputs = {}
    found = sorted(files)
    for file in found:
        path = file.relative_to(folder).as_posix()
        with file.open("rb") as stream:
            if len(found) <= MANY:
                os.fsync(stream.fileno())
            status = os.fstat(stream.fileno())
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        outputs[path] = Output(status.st_size, sha256, status.st_mtime_ns)
    return outputs


def write(folder: Path, record: Record) -> None:
    """The last act of a step."""
    atomic.write_json(folder / NAME, asdict(record))


def read(folder: Path | str) -> Record:
    """The record of the step that wrote this folder; raises NoRecord."""
    try:
        with open(f"{folder}/{NAME}", "rb") as stream:  # noqa: PTH123 - see _why_damaged
            content = json.loads(stream.read())
        return Record(**{**content, "outputs": {path: Output(**o) for path, o in content["outputs"].items()}})
    except (FileNotFoundError, NotADirectoryError):
        raise NoRecord(NEVER_BUILT) from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise NoRecord("its record is damaged") from None


def why_stale(folder: Path, inputs: Inputs) -> str | None:
    """Why the step has to run, or None when what it left is what it would leave now."""
    try:
        record = read(folder)
    except NoRecord as error:
        return str(error)
    return why_record_stale(folder, record, inputs)


def why_record_stale(folder: Path | str, record: Record, inputs: Inputs) -> str | None:
    """`why_stale` of a record that was read."""
    if record.key != key_of(inputs):
        return explain(record.inputs, inputs)
    for path, output in record.outputs.items():
        if reason := _why_damaged(f"{folder}/{path}", output):
            return f"{path} {reason}"
    return None


def _why_damaged(file: str, output: Output) -> str | None:
    try:
        status = os.stat(file)  # noqa: PTH116 - a thousand models have 22,000 files, and Path costs more than stat
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    if status.st_size != output.size:
        return f"has {status.st_size} bytes instead of {output.size}"
    if status.st_mtime_ns != output.mtime_ns:
        with Path(file).open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != output.sha256:
                return "was changed"
    return None


def explain(old: Inputs, new: Inputs) -> str:
    """What is different between two sets of inputs, for people."""
    reasons = list(_differences(old.get("settings"), new["settings"]))
    upstream = {**_mapping(old, "upstream"), **new["upstream"]}
    reasons += [
        f"what {step} left changed"
        for step in upstream
        if _mapping(old, "upstream").get(step) != new["upstream"].get(step)
    ]
    if old.get("code") != new["code"]:
        reasons.append("its code changed")
    reasons += _differences(_mapping(old, "libraries"), new["libraries"])
    shown = reasons[:3] + ([f"and {len(reasons) - 3} more"] if len(reasons) > 3 else [])
    return ", ".join(shown) or "its record has another key"


def _mapping(inputs: Inputs, name: str) -> Mapping[str, Any]:
    value = inputs.get(name)
    return value if isinstance(value, Mapping) else {}


def _differences(old: Any, new: Any, place: str = "") -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            yield from _differences(old.get(name), new.get(name), f"{place}.{name}" if place else name)
    else:
        yield f"{place} changed from {_shown(old)} to {_shown(new)}"


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
