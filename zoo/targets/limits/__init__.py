"""The kinds of limits, one module for each topic: the folder is the registry."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union, get_args

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from zoo.errors import did_you_mean
from zoo.targets.limit import Limit


def kinds_of(modules: Iterable[ModuleType]) -> dict[str, type[Limit]]:
    """The limits that modules define, by kind. Raises TypeError where two have the same kind."""
    found: dict[str, type[Limit]] = {}
    for module in modules:
        for limit in vars(module).values():
            kind = _kind_of(limit) if getattr(limit, "__module__", "") == module.__name__ else None
            if kind and found.setdefault(kind, limit) is not limit:
                raise TypeError(f"{limit.__name__} in {module.__name__}: the kind {kind!r} is {found[kind].__name__}'s")
    return dict(sorted(found.items()))


def _kind_of(found: Any) -> str | None:
    """The kind that a class narrows ``kind`` to; None where it is no limit or leaves that to its subclasses."""
    is_limit = isinstance(found, type) and issubclass(found, Limit)
    names = get_args(found.model_fields["kind"].annotation) if is_limit else ()
    return str(names[0]) if names else None


def _known(given: Any) -> Any:
    """What is given, unless it names a kind that does not exist."""
    kind = given.get("kind") if isinstance(given, dict) else None
    if isinstance(kind, str) and kind not in KINDS:
        cure = did_you_mean(kind, KINDS)
        text = "no kind of limit is called '{given}'" + ("; {cure}" if cure else "")
        raise PydanticCustomError("unknown_kind", text, {"given": kind, "cure": cure})
    return given


KINDS: Mapping[str, type[Limit]] = kinds_of(
    import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)
)
if TYPE_CHECKING:
    AnyLimit: TypeAlias = Limit
else:  # the class that the kind names, which is also how it is written back
    AnyLimit = Annotated[Union[tuple(KINDS.values())], Field(discriminator="kind"), BeforeValidator(_known)]  # noqa: UP007
