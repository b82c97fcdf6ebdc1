"""Files that others read: whole or not there, whenever the writer is killed."""

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

_umask = os.umask(0)
os.umask(_umask)


def to_json(value: Any) -> str:
    """JSON as every file of this project has it: sorted keys, two spaces, newline at the end; NaN is refused."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(file: Path, value: Any) -> None:
    """Write ``value`` as JSON in place of ``file``."""
    write_text(file, to_json(value))


def write_text(file: Path, text: str) -> None:
    """Write UTF-8 text in place of ``file``, whose folder is made where it is missing."""
    write_bytes(file, text.encode("utf-8"))


def write_bytes(file: Path, content: bytes) -> None:
    """Write ``content`` in place of ``file``, whose folder is made where it is missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            os.fchmod(stream.fileno(), 0o666 & ~_umask)
        replace_file(temporary, file)
    except BaseException:  # also Ctrl-C: no litter beside the file
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise


def replace_file(temporary: Path, file: Path) -> None:
    """Put a finished file of the same folder in place of ``file``, on the disk before this returns."""
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    temporary.replace(file)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Put the folder's list of names on the disk: a rename survives a power cut only after this."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
