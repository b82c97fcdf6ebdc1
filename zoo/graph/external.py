"""Tensors whose data lie in files beside the model: only in plain files below the model's folder, and whole.

https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx

from zoo.errors import UnreadableModel


@dataclass(frozen=True)
class Stretch:
    """Bytes of a file below the model's folder."""

    folder: Path
    location: str
    offset: int
    length: int

    def read(self) -> bytes:
        """The bytes. Raises OSError where the file has changed since it was looked at."""
        with os.fdopen(os.open(self.folder / self.location, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            file.seek(self.offset)
            data = file.read(self.length)
        if len(data) < self.length:
            raise OSError(f"{self.location} has become shorter")
        return data


def stretch(tensor: onnx.TensorProto, needed: int, folder: Path, place: str) -> Stretch:
    """Where the ``needed`` bytes of a tensor lie; nothing is read. Raises UnreadableModel."""
    who = f"{place}: tensor '{tensor.name}'"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    size = _size(folder, location, who)
    offset = _count(entries.get("offset", "0"), f"{who}: offset")
    length = _count(entries["length"], f"{who}: length") if "length" in entries else size - offset
    if length < 0 or offset + length > size:
        last = f" to {offset + length}" if length >= 0 else ""
        raise UnreadableModel(f"{who}: lies at bytes {offset}{last} of {location}, which has {size}; fetch it anew")
    if length < needed or ("length" in entries and length > needed):
        raise UnreadableModel(f"{who}: has {length} bytes in {location}, its shape and type take {needed}")
    return Stretch(folder, location, offset, needed)


def _size(folder: Path, location: str, who: str) -> int:
    """The size of a file that may be read. Raises UnreadableModel where it may not."""
    if not isinstance(location, str) or not location or not location.isprintable():
        raise UnreadableModel(f"{who}: names no file for its data")
    posix, windows = PurePosixPath(location), PureWindowsPath(location)
    if posix.is_absolute() or windows.drive or windows.root:
        raise UnreadableModel(
            f"{who}: its data lie at the absolute path {location}; only files beside the model are read"
        )
    if ".." in posix.parts or ".." in windows.parts:
        raise UnreadableModel(f"{who}: its data lie outside of the model's folder, at {location}; they are not read")
    current = folder
    status = None
    for part in posix.parts:
        current /= part
        try:
            status = current.lstat()
        except OSError as error:
            raise UnreadableModel(
                f"{who}: its data are in {location}, which cannot be read: {error.strerror}"
            ) from None
        if stat.S_ISLNK(status.st_mode):
            raise UnreadableModel(f"{who}: its data lie behind the symbolic link {location}; put the file itself there")
    if status is None or not stat.S_ISREG(status.st_mode):
        raise UnreadableModel(f"{who}: its data are in {location}, which is no regular file")
    return status.st_size


def _count(text: str, what: str) -> int:
    if not isinstance(text, str) or not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise UnreadableModel(f"{what} is '{text}', not a number of bytes")
    return int(text)
