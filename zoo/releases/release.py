"""Reading a release: its folder, its manifest, its files, none of them believed before it is checked.

models/<name>/v<N>/
    model.safetensors  plan.json  model.onnx  card.md  release.json
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from zoo.errors import IntegrityError, UnsupportedFormat
from zoo.index import release_folder
from zoo.releases.manifest import FORMAT, File, Manifest

MANIFEST = "release.json"


def parse(content: bytes, place: str) -> Manifest:
    """Read release.json's bytes.

    Raises UnsupportedFormat for a newer format and IntegrityError for anything that is not a release.
    """
    try:
        found = json.loads(content)
        number = found["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{place}: not a release; build or fetch it again") from error
    if number != FORMAT:
        raise UnsupportedFormat(
            f"{place}: format {number!r}, this lite-zoo reads format {FORMAT}; install a newer lite-zoo"
        )
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise IntegrityError(f"{place}: {where}: {first['msg']}; build or fetch the release again") from error


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def checked_file(folder: Path, file: File) -> Path:
    """A file of the release in ``folder``, its bytes compared with its digest.

    Raises IntegrityError where it is missing, changed, or leads out of the folder.
    """
    path = folder / file.path
    if path.is_symlink() or path.resolve().parent != folder.resolve():
        raise IntegrityError(f"{path}: leads out of its release's folder; build or fetch the release again")
    try:
        size, sha256 = path.stat().st_size, file_sha256(path)
    except OSError as error:
        raise IntegrityError(f"{path}: {error.strerror or error}; build or fetch the release again") from error
    if (size, sha256) != (file.size, file.sha256):
        fact = f"{size} bytes instead of {file.size}" if size != file.size else "its SHA-256 is not the release's"
        raise IntegrityError(f"{path}: not as it was released: {fact}; build or fetch the release again")
    return path


def published(zoo_folder: Path) -> Iterator[tuple[str, int]]:
    """Name and version of every release folder that holds a release.json, in order."""
    found = []
    for manifest in (zoo_folder / "models").glob(f"*/v*/{MANIFEST}"):
        name, number = manifest.parent.parent.name, manifest.parent.name[1:]
        if number.isascii() and number.isdecimal():
            found.append((name, int(number)))
    yield from sorted(found)


def read(zoo_folder: Path, name: str, version: int) -> tuple[Manifest, str]:
    """A release's manifest and the digest of its release.json.

    Raises IntegrityError where it is missing, damaged, or another release's.
    """
    file = release_folder(zoo_folder, name, version) / MANIFEST
    try:
        content = file.read_bytes()
    except OSError as error:
        raise IntegrityError(f"{file}: {error.strerror or error}; build or fetch the release again") from error
    manifest = parse(content, str(file))
    if (manifest.name, manifest.version) != (name, version):
        raise IntegrityError(
            f"{file}: says it is {manifest.name} v{manifest.version}; build or fetch the release again"
        )
    return manifest, hashlib.sha256(content).hexdigest()
