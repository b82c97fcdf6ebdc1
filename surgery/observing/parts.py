"""What a nested value is made of: containers, objects that hold something, tensors and plain values."""

from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, fx, nn

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, Enum)
# A graph writes one for the other, and whoever reads them cannot tell them apart by a key.
DICTS: frozenset[Any] = frozenset({dict, OrderedDict, defaultdict, fx.immutable_collections.immutable_dict})


@dataclass(frozen=True)
class Holder:
    """A container or an object, without what it holds."""

    kind: type


def parts(value: Any) -> dict[str, Any]:
    """All places of a nested value, written as Python reads them: a ``Holder``, a tensor, a plain value or the rest."""
    return dict(_parts(value, "", ()))


def _parts(value: Any, path: str, around: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    held = None if id(value) in around else items(value)
    if held is None:
        yield path, value
        return
    yield path, Holder(_kind(value))
    for key, item in held.items():
        yield from _parts(item, path + key, (*around, id(value)))


def items(value: Any) -> dict[str, Any] | None:
    """What a container or an object holds, by how Python reads it; None for what holds nothing to look at."""
    if isinstance(value, (Tensor, *PLAIN)):
        return None
    if isinstance(value, Mapping):
        return {f"[{key!r}]": item for key, item in value.items()}
    if isinstance(value, list | tuple):
        return {f"[{at}]": item for at, item in enumerate(value)}
    if isinstance(value, type | ModuleType | nn.Module) or callable(value):
        return None
    own = dict(getattr(value, "__dict__", ()))
    if is_dataclass(value):  # with slots it has no __dict__
        own |= {field.name: getattr(value, field.name) for field in fields(value) if hasattr(value, field.name)}
    return {f".{name}": own[name] for name in sorted(own)} or None


def _kind(value: Any) -> type:
    """Its type; kinds of lists, of dicts and of tuples without names count as one."""
    if isinstance(value, list):
        return list
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple
    return dict if type(value) in DICTS else type(value)
