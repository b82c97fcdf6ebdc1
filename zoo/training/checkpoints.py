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

KEPT = 2


def save(folder: Path, epoch: int, state: dict[str, Any]) -> None:
    """Write the state after ``epoch`` epochs (tensors and plain values) and remove all but the newest two."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{os.getpid()}.tmp"
    torch.save(state, temporary)
    replace_file(temporary, folder / f"epoch-{epoch:05d}-{_digest(temporary)}.pt")
    for old in _newest_first(folder)[KEPT:]:
        old.unlink()


def newest(folder: Path) -> dict[str, Any] | None:
    """The state of the newest whole checkpoint, on the CPU; None where there is none."""
    for file in _newest_first(folder):
        if file.stem.endswith(f"-{_digest(file)}"):
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            return state
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*.pt"), key=lambda file: file.name, reverse=True)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:32]
