"""One dataset's config by its name, whatever is wrong in other files."""

from pathlib import Path

from zoo.config import Dataset
from zoo.errors import InvalidInput, UnknownName, did_you_mean
from zoo.reading import dataset_references, strict_yaml
from zoo.reading.validation import validate

FOLDER = Path("configs", "datasets")


def read(name: str, root: Path) -> Dataset:
    """The dataset of ``root``'s configs/datasets/<name>.yaml.

    Raises UnknownName where there is none, InvalidInput holding every problem of the file.
    """
    files = {file.stem: file for file in sorted((root / FOLDER).glob("*.yaml"))}
    if name not in files:
        cure = did_you_mean(name, files) or "run this in the checkout's root"
        raise UnknownName(f"dataset {name}: there is no {FOLDER.as_posix()}/{name}.yaml; {cure}")
    document = strict_yaml.load(files[name], root)
    dataset = validate(document, Dataset)
    if problems := list(dataset_references.problems([document])):
        raise InvalidInput(problems)
    return dataset
