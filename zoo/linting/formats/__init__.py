"""How a report is written, one module each: the folder is the registry. A module here offers ``write``."""

from importlib import import_module
from typing import Protocol, cast

from zoo.linting.report import Report
from zoo.reading import registry


class Format(Protocol):
    """What a module of this folder offers."""

    def write(self, report: Report) -> str:
        """The report as text that ends with a newline."""


def names() -> list[str]:
    """All of them, sorted."""
    return sorted(registry.modules(__name__))


def find(name: str) -> Format:
    """The format of a name that is in ``names()``."""
    return cast(Format, import_module(f"{__name__}.{name}"))
