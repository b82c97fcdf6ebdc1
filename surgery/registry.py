"""The folder is the registry: every rule class in a module of surgery.rules, by name."""

import importlib
import inspect
import pkgutil
from functools import cache

from surgery import rules as folder
from surgery.rule import Rule


@cache
def rules() -> dict[str, Rule]:
    """All rules in the order of their turn. Raises TypeError where two carry one name."""
    found: dict[str, Rule] = {}
    for info in pkgutil.iter_modules(folder.__path__):
        module = importlib.import_module(f"{folder.__name__}.{info.name}")
        for kind in vars(module).values():
            if not _is_rule_of(kind, module.__name__):
                continue
            if kind.name in found:
                raise TypeError(
                    f"two rules are named {kind.name!r}: {type(found[kind.name]).__module__} and {module.__name__}"
                )
            found[kind.name] = kind()
    return dict(sorted(found.items(), key=lambda item: (item[1].stage, item[0])))


def _is_rule_of(kind: object, module: str) -> bool:
    return inspect.isclass(kind) and issubclass(kind, Rule) and kind.__module__ == module and "name" in vars(kind)
