"""Index: the release becomes findable. Leaves entry.json, what the index holds of it."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from zoo import atomic, index
from zoo.errors import StepError, ZooError
from zoo.job import Job, Result
from zoo.releases import release


def run(job: Job) -> Result:
    """Add the release to the zoo's index; an index that is missing or damaged is made again from the releases."""
    zoo_folder = job.shared / "zoo"
    copy = job.upstream["release"] / release.MANIFEST
    version = release.parse(copy.read_bytes(), str(copy)).version
    folder = index.release_folder(zoo_folder, job.model, version)
    file = folder / release.MANIFEST
    if not file.is_file() or release.file_sha256(file) != release.file_sha256(copy):
        raise StepError(f"{folder}: not what the release step made; delete {copy} and build again to release it anew")
    manifest, sha256 = release.read(zoo_folder, job.model, version)
    entry = manifest.entry(sha256)

    def keep(known: index.Entry) -> bool:
        """Versions of this model that somebody deleted leave the index too."""
        return known.name != entry.name or index.release_folder(zoo_folder, known.name, known.version).is_dir()

    if damage := index.add(zoo_folder, entry, rebuild=lambda: intact(zoo_folder), keep=keep):
        print(f"{damage}: made again from the releases")
    left = job.folder / "entry.json"
    atomic.write_json(left, asdict(entry))
    return Result(outputs=(left,), summary={"release": f"{entry.name} v{entry.version}"})


def intact(zoo_folder: Path) -> Iterator[index.Entry]:
    """An entry for every release whose release.json can be read; the others are named and left out."""
    for name, version in release.published(zoo_folder):
        try:
            manifest, sha256 = release.read(zoo_folder, name, version)
        except ZooError as error:
            print(f"left out of the index: {error}")
        else:
            yield manifest.entry(sha256)
