"""Training states on disk: the last two, each whole or not there, each named after its own digest.

A checkpoint is believed only where its digest is right: one that was cut short or altered is passed over for the one
before it.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import torch

from zoo.atomic import replace_file
from zoo.errors import UnusableFile

KEPT = 2


def save(folder: Path, epoch: int, state: dict[str, Any]) -> None:
    """Write the state after ``epoch`` epochs (tensors and plain values) and remove all but the newest two.

    Raises UnusableFile where it cannot be written; nothing of it is left then, and those before it stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(folder)
    temporary = folder / f".{os.getpid()}.tmp"
    try:
        with temporary.open("wb") as stream:  # a file of ours: torch's own says nothing of why it cannot be written
            torch.save(state, stream)
        replace_file(temporary, folder / f"epoch-{epoch:05d}-{_digest(temporary)}.pt")
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        fact = _cause(error)
        before = f"epoch {epoch - 1}, which is kept" if newest_file(folder) else "the start"
        raise UnusableFile(
            f"{folder}: the checkpoint of epoch {epoch} cannot be written: {fact}; make room there and build again, "
            f"which goes on from {before}"
        ) from error
    for old in _newest_first(folder)[KEPT:]:
        old.unlink()


def newest(folder: Path) -> dict[str, Any] | None:
    """The state of the newest whole checkpoint, on the CPU; None where there is none."""
    file = newest_file(folder)
    if file is None:
        return None
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def newest_file(folder: Path) -> Path | None:
    """The newest whole checkpoint; None where there is none."""
    return next((file for file in _newest_first(folder) if file.stem.endswith(f"-{_digest(file)}")), None)


def _cause(error: BaseException) -> str:
    """Of an exception that torch raised because its stream raised one: that one's."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split())[:200]


def _remove_unfinished(folder: Path) -> None:
    """What a killed process was writing."""
    for file in folder.glob(".*.tmp"):
        file.unlink(missing_ok=True)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*.pt"), key=lambda file: file.name, reverse=True)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:32]
