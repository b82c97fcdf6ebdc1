"""What is linted: an ONNX file, or a release's, whose own target and whose end of the network are known."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import IntegrityError, MissingIndex, UnknownName, UnreadableModel
from zoo.releases import consumer
from zoo.releases.consumer import Location

HEAD = "detection_head"


@dataclass(frozen=True)
class Subject:
    """A model file; ``host`` are the names of the values behind which the host takes over."""

    file: Path
    target: str | None = None  # what a release was made for
    device: str = ""  # of that target; "" for all of them
    host: frozenset[str] = frozenset()


def find(model: str, version: int | None = None, *, index: Location | None = None) -> Subject:
    """The file of this path, else the release of this name.

    Raises UnreadableModel where a path leads to no file, UnknownName and MissingIndex where there is neither file nor
    release, IntegrityError where the release is damaged.
    """
    path = Path(model)
    try:
        if path.is_file():
            return Subject(path)
        if "/" in model or path.suffix == ".onnx" or (path.is_dir() and not _is_release(model, index)):
            fact = "is a folder; name the .onnx file in it" if path.is_dir() else "no such file; check the path"
            raise UnreadableModel(f"{model}: {fact}")
    except (OSError, ValueError) as error:  # a folder that may not be searched, a name that is too long or holds a NUL
        fact = str(getattr(error, "strerror", None) or error)
        raise UnreadableModel(f"{model[:100]!r}: {fact}; check the path") from error
    try:
        release = consumer.get(model, version, index=index)
    except (UnknownName, MissingIndex) as error:
        raise type(error)(f"{model}: no such file, and as a release: {error}") from error
    manifest = release.manifest
    host = frozenset(manifest.onnx.host)
    if not host and HEAD in manifest.files:  # of a release from before manifests said it
        host = host_boundary(release.file(HEAD))
    device = manifest.lint.device if manifest.lint else ""
    return Subject(release.file("onnx"), manifest.target, device, host)


def host_boundary(head: Path) -> frozenset[str]:
    """The tensors at the end of a detector's network, by its detection_head.json: the host decodes them.

    Raises IntegrityError where the file says nothing of the kind.
    """
    try:
        content: Any = json.loads(head.read_bytes())
        return frozenset(str(name) for level in content["levels"] for name in level["tensors"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        fact = f"{head}: not a description of a detection head; build or fetch the release again"
        raise IntegrityError(fact) from error


def _is_release(name: str, index: Location | None) -> bool:
    try:
        return name in consumer.list_models(index=index)
    except MissingIndex:
        return False
