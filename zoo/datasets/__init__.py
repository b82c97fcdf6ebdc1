"""The generators of embedded datasets, one module each: the folder is the registry.

A generator has ``generate(folder: Path, *, ...) -> None``, which writes ``train`` and ``val`` under ``folder`` in the
layout that its dataset's config names; its keyword arguments are what a config's ``parameters`` may set, with whole
numbers for those that are ``int`` (zero and up) or zoo.config's ``Positive``. Same arguments, same bytes.
"""

from importlib import import_module
from types import ModuleType

from zoo.errors import UnknownName, did_you_mean
from zoo.reading import registry


def find(name: str) -> ModuleType:
    """The generator of that name; raises UnknownName with the near ones."""
    known = registry.modules("zoo.datasets")
    if name not in known:
        raise UnknownName(f"unknown generator '{name}'; {did_you_mean(name, known)}".rstrip("; "))
    return import_module(f"zoo.datasets.{name}")
