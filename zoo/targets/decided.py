"""Logic with three values: what is not known decides only where nothing else does."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from zoo.graph.view import NotKnown

Found = TypeVar("Found")


def first(asked: Iterable[Callable[[], Found | None]]) -> Found | None:
    """The first answer that is not empty, None where all are. Raises NotKnown where that hangs on what is not known."""
    unknown: NotKnown | None = None
    for ask in asked:
        try:
            if answer := ask():
                return answer
        except NotKnown as error:
            unknown = unknown or error
    if unknown:
        raise unknown
    return None


def some(asked: Iterable[Callable[[], bool]]) -> bool:
    """Whether one is true. Raises NotKnown where none is and some are not known."""
    return bool(first(asked))


def every(asked: Iterable[Callable[[], bool]]) -> bool:
    """Whether all are true. Raises NotKnown where none is false and some are not known."""
    return not some(_denied(ask) for ask in asked)


def _denied(ask: Callable[[], bool]) -> Callable[[], bool]:
    return lambda: not ask()
