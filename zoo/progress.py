"""How far a step is: a line in its log, and a message to the process that started it."""

import contextlib
import select
from multiprocessing.connection import Connection

_listener: Connection | None = None


def connect(connection: Connection | None) -> None:
    """Also send what is reported from now on, as ``(text, fraction)``, through ``connection``; None: to nobody."""
    global _listener
    _listener = connection


def report(text: str, fraction: float) -> None:
    """Tell what has been done, and which fraction (0-1) of the step that is.

    Never waits and never raises for the listener's sake: a message that it has no room for is dropped, since work must
    not depend on being watched.
    """
    print(f"{fraction:4.0%} {text}", flush=True)
    if _listener is not None:
        with contextlib.suppress(OSError, ValueError):
            if select.select([], [_listener], [], 0)[1]:
                _listener.send((text[:200], fraction))
