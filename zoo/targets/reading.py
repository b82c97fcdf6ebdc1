"""One target by name or file: ``read("tidl-9.1", root)``, from a checkout or from the installed package."""

import re
from collections.abc import Iterator
from pathlib import Path

from zoo.errors import InvalidInput, UnknownName, did_you_mean
from zoo.reading import strict_yaml
from zoo.reading.document import Document
from zoo.targets.extending import resolve
from zoo.targets.target import Target

NUMBERS = re.compile(r"(\d+)")
_HERE = Path(__file__).parent
SHIPPED = (_HERE / "profiles", _HERE.parents[1] / "configs" / "targets")  # in a wheel; in the project's checkout


def read(name: str, root: Path | None = None) -> Target:
    """The whole target of a name, or of a YAML file whose path stands in the name's place.

    A name is looked for below ``root`` in configs/targets/, then among those that come with the package; so are the
    targets that it extends, for a file in its own folder first.

    Raises UnknownName where there is none, InvalidInput holding every problem of its file and of those it extends.
    """
    folders = [folder for folder in (root / "configs" / "targets" if root else None, *SHIPPED) if folder is not None]
    if name.endswith((".yaml", ".yml")) or "/" in name:
        file = Path(name)
        if not file.is_file():
            raise UnknownName(f"target {name}: no such file")
        name, folders = file.stem, [file.parent, *folders]
        files = {**_files(folders), name: file}
    else:
        files = _files(folders)
    if name not in files:
        raise UnknownName(f"target {name}: there is none of that name; {did_you_mean(name, files)}".removesuffix("; "))
    targets, problems = resolve(dict(_with_extended(name, files)), files)
    if problems:
        raise InvalidInput(problems)
    return targets[name]


def names(root: Path | None = None) -> list[str]:
    """Every target that ``read`` finds by name, 9.2 before 10.0."""
    found = _files([root / "configs" / "targets", *SHIPPED] if root else list(SHIPPED))
    return sorted(found, key=lambda name: [int(part) if part.isdecimal() else part for part in NUMBERS.split(name)])


def _files(folders: list[Path]) -> dict[str, Path]:
    """Files by name; of two, the one in the earlier folder."""
    return {file.stem: file for folder in reversed(folders) for file in sorted(folder.glob("*.yaml"))}


def _with_extended(name: str, files: dict[str, Path]) -> Iterator[tuple[str, Document]]:
    """The documents of a target and of those it extends, in turn."""
    seen: set[str] = set()
    parent: object = name
    while isinstance(parent, str) and parent in files and parent not in seen:
        seen.add(parent)
        document = strict_yaml.load(files[parent], Path(files[parent].anchor))
        yield parent, document
        parent = document.data.get("extends")
