"""What stands at a place of a document that may have any shape."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from zoo.errors import Problem, did_you_mean
from zoo.reading.document import Document, Location, shown


def check_name(
    document: Document, location: Location, what: str, known: Collection[str], folder: str = ""
) -> Iterator[Problem]:
    """A problem where a name is none of those that are known; ``folder`` is where one may be added."""
    name = text_at(document, location)
    if name is not None and name not in known:
        cure = did_you_mean(name, known) or (f"add {folder}/{shown(name)}.yaml" if folder else "")
        yield document.problem(location, f"unknown {what} '{shown(name)}'", cure)


def value_at(document: Document, location: Location) -> Any:
    """The value at a location, or None where the document has another shape; validation reports that."""
    value: Any = document.data
    for part in location:
        inside = part in value if isinstance(value, Mapping) else isinstance(value, list) and isinstance(part, int)
        if not inside:
            return None
        value = value[part]
    return value


def text_at(document: Document, location: Location) -> str | None:
    """The text at a location; None where there is none."""
    value = value_at(document, location)
    return value if isinstance(value, str) else None


def number_at(document: Document, location: Location) -> float | None:
    """The number at a location; None where there is none."""
    value = value_at(document, location)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def list_at(document: Document, location: Location) -> list[Any]:
    """The list at a location; an empty one where there is none."""
    value = value_at(document, location)
    return value if isinstance(value, list) else []


def mapping_at(document: Document, location: Location) -> Mapping[str, Any]:
    """The mapping at a location; an empty one where there is none."""
    value = value_at(document, location)
    return value if isinstance(value, Mapping) else {}
