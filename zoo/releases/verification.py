"""Whether every file of a zoo is still what it was when it was released."""

from collections.abc import Iterator
from pathlib import Path

from zoo import index
from zoo.errors import UnknownName, ZooError, did_you_mean
from zoo.releases import release


def verify(zoo_folder: Path, name: str | None = None) -> Iterator[tuple[str, str | None]]:
    """Read every byte of every release, or of ``name``'s; yields ("<name> v<N>", damage or none) for each.

    Raises what ``zoo.index.read`` raises, and UnknownName where the index does not have ``name``.
    """
    entries = index.read(zoo_folder)
    if name is not None and name not in entries:
        raise UnknownName(f"{zoo_folder}: no release '{name}'; " + (did_you_mean(name, entries) or "see `zoo list`"))
    listed = {(known, version) for known, versions in entries.items() for version in versions}
    for known, version in sorted(listed | set(release.published(zoo_folder))):
        if name is not None and known != name:
            continue
        label = f"{known} v{version}"
        if (known, version) not in listed:
            yield label, "it is not in the index; delete index.json and run `doit build`"
            continue
        yield label, _damage(zoo_folder, entries[known][version])


def _damage(zoo_folder: Path, entry: index.Entry) -> str | None:
    try:
        manifest, sha256 = release.read(zoo_folder, entry.name, entry.version)
        if manifest.entry(sha256) != entry:
            return "release.json is not the one that the index lists; build or fetch the release again"
        folder = index.release_folder(zoo_folder, entry.name, entry.version)
        for file in manifest.files.values():
            release.checked_file(folder, file)
    except ZooError as error:
        return str(error)
    return None
