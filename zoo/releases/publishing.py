"""Putting a release in the zoo: whole or not at all, and never changed afterwards."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from zoo import atomic, index
from zoo.errors import IntegrityError, MissingIndex, UnsupportedFormat
from zoo.index import locked, release_folder
from zoo.releases.manifest import FILES, Manifest
from zoo.releases.release import MANIFEST, checked_file, published, read

PARTIAL = ".partial-"
READ_ONLY = 0o444


@dataclass(frozen=True)
class Published:
    """A release's place in the zoo, and whether it was made now."""

    folder: Path
    manifest: Manifest
    is_new: bool
    note: str = ""


def publish(
    zoo_folder: Path,
    name: str,
    content_sha256: str,
    *,
    sources: Mapping[str, Path],
    finish: Callable[[int], tuple[Manifest, str]],
) -> Published:
    """Publish ``sources`` (file kind -> file) under the next free version, unless the latest has the same content.

    ``finish(version)`` gives the manifest and the card's text. A latest version whose files were damaged since is
    left as it is, and a new version is made beside it: what a consumer once fetched must never change.
    """
    with locked(zoo_folder):
        versions = [version for known, version in published(zoo_folder) if known == name]
        latest = max(versions, default=0)
        note = ""
        if latest:
            try:
                manifest = _intact(zoo_folder, name, latest)
                if manifest.content_sha256 == content_sha256:
                    return Published(release_folder(zoo_folder, name, latest), manifest, is_new=False)
            except (IntegrityError, UnsupportedFormat) as error:
                note = f"v{latest} is left as it is, a new version is made: {error}"
        # Counts folders without a release.json and entries without a folder: a number is never given twice.
        version = max([latest, *_numbers(zoo_folder / "models" / name), *_entries(zoo_folder, name)]) + 1
        manifest, card = finish(version)
        folder = release_folder(zoo_folder, name, version)
        _write(folder, manifest, card, sources)
        return Published(folder, manifest, is_new=True, note=note)


def _intact(zoo_folder: Path, name: str, version: int) -> Manifest:
    manifest, sha256 = read(zoo_folder, name, version)
    listed = _entries(zoo_folder, name).get(version)
    if listed is not None and listed.release_sha256 != sha256:
        place = release_folder(zoo_folder, name, version) / MANIFEST
        raise IntegrityError(f"{place}: was changed after it was published")
    for file in manifest.files.values():
        checked_file(release_folder(zoo_folder, name, version), file)
    return manifest


def _entries(zoo_folder: Path, name: str) -> Mapping[int, index.Entry]:
    with contextlib.suppress(MissingIndex, UnsupportedFormat, IntegrityError):
        return index.read(zoo_folder).get(name, {})
    return {}


def _numbers(folder: Path) -> list[int]:
    return [int(child.name[1:]) for child in folder.glob("v*") if child.name[1:].isdecimal()]


def _write(folder: Path, manifest: Manifest, card: str, sources: Mapping[str, Path]) -> None:
    """Write beside the final folder and rename; what a killed build left there is removed first."""
    parent = folder.parent
    parent.mkdir(parents=True, exist_ok=True)
    for abandoned in parent.glob(f"{PARTIAL}*"):
        shutil.rmtree(abandoned)
    partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=parent))
    try:
        for kind, source in sources.items():
            shutil.copyfile(source, partial / FILES.get(kind, source.name))
        (partial / FILES["card"]).write_text(card, encoding="utf-8")
        (partial / MANIFEST).write_text(atomic.to_json(manifest.model_dump(mode="json")), encoding="utf-8")
        for path in partial.iterdir():
            path.chmod(READ_ONLY)
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        for file in manifest.files.values():
            checked_file(partial, file)  # what was copied is what was described
        partial.chmod(0o755)
        atomic.sync_folder(partial)
        partial.rename(folder)
        atomic.sync_folder(parent)
    except BaseException:  # also Ctrl-C: no litter in the zoo
        shutil.rmtree(partial, ignore_errors=True)
        raise
