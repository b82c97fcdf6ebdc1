"""From a file to the ONNX model in it; weights in files beside it are not opened."""

import stat
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from zoo.errors import UnreadableModel

LARGEST = 2**31 - 1  # bytes: what one protobuf message may have, https://protobuf.dev/programming-guides/encoding
_LFS_POINTER = b"version https://git-lfs"


def load(path: Path) -> onnx.ModelProto:
    """The model as it is written. Raises UnreadableModel."""
    data = _content(path)
    if data.startswith(_LFS_POINTER):
        raise UnreadableModel(f"{path}: this is a pointer of Git LFS, not the model; fetch the model with git lfs pull")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        raise UnreadableModel(f"{path}: not an ONNX file, or a damaged one; export the model again") from None
    # Other formats and truncated files can be read as a message without any of the fields that ONNX has.
    if not model.HasField("graph") or model.ir_version < 1:
        raise UnreadableModel(f"{path}: not an ONNX file: no graph or no IR version in it")
    return model


def _content(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UnreadableModel(f"{path}: is a folder; name the .onnx file in it")
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableModel(f"{path}: is not a regular file")
        if status.st_size == 0:
            raise UnreadableModel(f"{path}: is empty; export the model again")
        if status.st_size > LARGEST:
            raise UnreadableModel(
                f"{path}: has {status.st_size / 2**30:.1f} GiB, more than the 2 GiB that ONNX can hold in one file; "
                "save its weights as external data"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise UnreadableModel(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise UnreadableModel(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
