"""The zoo's table of contents: ``index.json``, replaced atomically under a lock, readable at any instant.

{"format": 1, "releases": {"<name>": {"latest": 2, "versions": {"1": {...}, "2": {...}}}}}
"""

import contextlib
import fcntl
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_origin

from zoo import atomic
from zoo.errors import IntegrityError, MissingIndex, UnsupportedFormat

FORMAT = 1
FILE = "index.json"
LOCK = "index.lock"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}")
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """One version of one release, with the figures that a list shows; ``value`` is the accuracy by ``metric``."""

    name: str
    version: int
    release_sha256: str  # of its release.json
    task: str
    lite: bool
    source: str  # library/model
    dataset: str  # that the accuracy was measured on
    metric: str
    value: float
    source_value: float
    macs: int
    parameters: int
    speed_up: float
    targets: tuple[str, ...] = ()  # that refuse nothing of it; releases from before targets were linted have none

    def __post_init__(self) -> None:
        """Raises ValueError for a name, version or digest that cannot be one, and for text that a terminal obeys."""
        targets: Any = self.targets
        if type(targets) is list:  # as JSON has it
            object.__setattr__(self, "targets", tuple(targets))
        for field in fields(self):
            kinds = (int, float) if field.type is float else (get_origin(field.type) or field.type,)
            value = getattr(self, field.name)
            if type(value) not in kinds or not str(value).isprintable():
                raise ValueError(f"{field.name} is {value!r}")
        for target in self.targets:
            if type(target) is not str or not NAME.fullmatch(target):
                raise ValueError(f"{target!r} is no target")
        if not NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no name")
        if self.version < 1:
            raise ValueError(f"{self.version} is no version")
        if not DIGEST.fullmatch(self.release_sha256):
            raise ValueError(f"{self.release_sha256!r} is no SHA-256")


Releases = Mapping[str, Mapping[int, Entry]]  # name -> version -> entry


def release_folder(zoo_folder: Path, name: str, version: int) -> Path:
    """Where a release lies."""
    return zoo_folder / "models" / name / f"v{version}"


def read(zoo_folder: Path) -> Releases:
    """All entries.

    Raises MissingIndex, UnsupportedFormat for a newer format, and IntegrityError where the file is damaged.
    """
    file = zoo_folder / FILE
    try:
        status = file.stat()
        return _parsed(file, status.st_ino, status.st_mtime_ns, status.st_size)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingIndex(
            f"{file}: there is no zoo here; build one with `doit build`, or say where it is with --index or ZOO_INDEX"
        ) from error
    except OSError as error:
        raise IntegrityError(f"{file}: cannot be read: {error.strerror}; check the file and its permissions") from error


# A build asks for 1,000 models whether the index holds them; the file's identity tells whether it was replaced.
@lru_cache(maxsize=4)
def _parsed(file: Path, _inode: int, _mtime_ns: int, _size: int) -> Releases:
    content = file.read_bytes()
    try:
        return _entries(json.loads(content))
    except _NewerFormat as error:
        raise UnsupportedFormat(
            f"{file}: format {error}, this lite-zoo reads format {FORMAT}; install a newer lite-zoo"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        fact = " ".join(str(error).split())[:120] or type(error).__name__
        raise IntegrityError(f"{file}: damaged: {fact}; delete it and run `doit build`, or fetch it again") from error


class _NewerFormat(Exception):
    pass


def _entries(content: Any) -> Releases:
    if content["format"] != FORMAT:
        raise _NewerFormat(content["format"])
    releases: dict[str, Mapping[int, Entry]] = {}
    for name, release in content["releases"].items():
        versions = {int(v): Entry(name=name, version=int(v), **entry) for v, entry in release["versions"].items()}
        if release["latest"] != max(versions):
            raise ValueError(f"{name}: latest is {release['latest']!r}")
        releases[name] = MappingProxyType(versions)
    return MappingProxyType(releases)


def holds(zoo_folder: Path, name: str, version: int, entry: Mapping[str, Any] | None = None) -> bool:
    """Whether the index can be read and has this release, as ``entry`` says, and what it lists of it is there."""
    try:
        versions = read(zoo_folder).get(name, {})
    except (MissingIndex, UnsupportedFormat, IntegrityError):
        return False
    known = versions.get(version)
    if known is None or (entry is not None and _as_json(known) != {**_as_json(known), **entry}):
        return False
    there = (release_folder(zoo_folder, name, listed).is_dir() for listed in versions)
    return all(there) and (release_folder(zoo_folder, name, version) / "release.json").is_file()


def is_whole(zoo_folder: Path, name: str, version: int, copy: Path) -> bool:
    """Whether a release's folder holds what ``copy``, its release.json as published, says.

    By size, and by content where a file was touched after the copy was made; `zoo verify` reads every byte.
    """
    folder = release_folder(zoo_folder, name, version)
    try:
        content, published_ns = copy.read_bytes(), copy.stat().st_mtime_ns
        files = json.loads(content)["files"].values()
        return (folder / "release.json").read_bytes() == content and all(
            _is_as_published(folder / file["path"], file, published_ns) for file in files
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _is_as_published(path: Path, file: Mapping[str, Any], published_ns: int) -> bool:
    status = path.stat()
    if status.st_size != file["size"]:
        return False
    return status.st_mtime_ns <= published_ns or hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"]


@contextlib.contextmanager
def locked(zoo_folder: Path) -> Iterator[None]:
    """Wait until no other process publishes in this zoo; the system frees the lock of a killed one."""
    zoo_folder.mkdir(parents=True, exist_ok=True)
    with (zoo_folder / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def add(
    zoo_folder: Path,
    entry: Entry,
    *,
    rebuild: Callable[[], Iterable[Entry]],
    keep: Callable[[Entry], bool] = lambda _: True,
) -> str:
    """Add or replace one entry; where there is no index, or a damaged one, ``rebuild`` gives the other entries.

    Other entries stay for which ``keep`` holds.

    Returns what was wrong with a damaged index, else nothing. Raises UnsupportedFormat: a newer index is left alone.
    """
    with locked(zoo_folder):
        damage = ""
        try:
            entries = [known for versions in read(zoo_folder).values() for known in versions.values()]
        except MissingIndex:
            entries = list(rebuild())
        except IntegrityError as error:
            entries, damage = list(rebuild()), str(error)
        others = [
            known for known in entries if (known.name, known.version) != (entry.name, entry.version) and keep(known)
        ]
        atomic.write_json(zoo_folder / FILE, _to_json([*others, entry]))
    return damage


def _as_json(entry: Entry) -> dict[str, Any]:
    return asdict(entry) | {"targets": list(entry.targets)}


def _to_json(entries: Iterable[Entry]) -> dict[str, Any]:
    releases: dict[str, dict[str, Any]] = {}
    for entry in entries:
        release = releases.setdefault(entry.name, {"latest": 0, "versions": {}})
        release["latest"] = max(release["latest"], entry.version)
        figures = {k: v for k, v in _as_json(entry).items() if k not in ("name", "version")}
        release["versions"][str(entry.version)] = figures
    return {"format": FORMAT, "releases": releases}
