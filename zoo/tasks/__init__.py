"""The ML tasks, one module each: the folder is the registry. A task knows its data, its loss and its metric."""

from importlib import import_module
from types import ModuleType

from zoo.errors import UnknownName, did_you_mean
from zoo.reading import registry


def find(name: str) -> ModuleType:
    """The task of that name; raises UnknownName with the near ones."""
    known = registry.modules("zoo.tasks")
    if name not in known:
        raise UnknownName(f"unknown task '{name}'; {did_you_mean(name, known)}".rstrip("; "))
    return import_module(f"zoo.tasks.{name}")
