"""The subcommands of `zoo`, one module each: the folder is the registry. A module here holds one ``command``.

Each imports at its top what is instant to import: `zoo --help` imports all of them.
"""

from importlib import import_module
from typing import cast

import click

from zoo.reading import registry


def names() -> list[str]:
    """All of them, sorted."""
    return sorted(registry.modules(__name__))


def find(name: str) -> click.Command:
    """The command of a name that is in ``names()``."""
    return cast(click.Command, import_module(f"{__name__}.{name}").command)
