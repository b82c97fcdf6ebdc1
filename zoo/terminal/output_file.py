"""What a command writes: whole, or not there."""

import os
import sys
from pathlib import Path

from zoo import atomic
from zoo.errors import UnusableFile


def require(file: Path) -> None:
    """Raises UnusableFile where it could not be written: a folder, or in none."""
    if file.is_dir():
        raise UnusableFile(f"{file}: is a folder; name a file")
    if not file.parent.is_dir():
        raise UnusableFile(f"{file}: there is no folder {file.parent}; make it, or name another")


def write(file: Path, text: str) -> None:
    """Write it as UTF-8, into what is no regular file, such as /dev/stdout, as it is. Raises UnusableFile."""
    try:
        require(file)
        if _is_stdout(file):
            sys.stdout.write(text)
            sys.stdout.flush()
        elif file.exists() and not file.is_file():  # a device or pipe, which a file must not take the place of
            file.write_text(text, encoding="utf-8")
        else:
            atomic.write_text(Path(os.path.realpath(file)), text)  # a link stays one
    except OSError as error:
        raise UnusableFile(f"{file}: cannot be written: {error.strerror}; name another file") from error


def _is_stdout(file: Path) -> bool:
    """Whether it is what stdout is redirected to: /dev/stdout, a link, must not be replaced, nor what is in it."""
    try:
        return file.exists() and os.path.samestat(file.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):  # a stdout that is no file
        return False


def make_folder(folder: Path) -> None:
    """Make it where it is missing. Raises UnusableFile where that cannot be."""
    try:
        folder.mkdir(exist_ok=True)
    except FileNotFoundError:
        raise UnusableFile(f"{folder}: there is no folder {folder.parent}; make it, or name another") from None
    except FileExistsError:
        raise UnusableFile(f"{folder}: is a file; name a folder") from None
    except OSError as error:
        raise UnusableFile(f"{folder}: cannot be made: {error.strerror}; name another folder") from error
