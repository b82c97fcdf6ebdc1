"""What a build shows while it runs: bars on a terminal, now and then a line elsewhere."""

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SECONDS_BETWEEN_LINES = 30.0


class Screen:
    """Plain lines, for logs and pipes."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def line(self, text: str) -> None:
        """Show a line that stays."""
        print(text, flush=True)

    def progress(self, name: str, text: str, fraction: float) -> None:
        """Show how far a step is; ``fraction`` is 0-1. Most reports are not worth a line."""
        now = time.monotonic()
        if now - self._told.setdefault(name, now) >= SECONDS_BETWEEN_LINES:
            self._told[name] = now
            self.line(f"{name}  {fraction:.0%}  {text}")

    def finished(self, name: str) -> None:
        """The step has ended."""
        self._told.pop(name, None)

    def close(self) -> None:
        """Nothing more comes."""


class Terminal(Screen):
    """A bar for each running step, with the lines that stay above them."""

    def __init__(self) -> None:
        super().__init__()
        self._bars: dict[str, TaskID] = {}
        self._display: Progress | None = None

    def line(self, text: str) -> None:
        if self._display is None:
            super().line(text)
        else:
            self._display.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def progress(self, name: str, text: str, fraction: float) -> None:
        display = self._opened()
        if name not in self._bars:
            self._bars[name] = display.add_task(name, total=1.0, text="")
        display.update(self._bars[name], completed=fraction, text=text)

    def finished(self, name: str) -> None:
        if self._display is not None and name in self._bars:
            self._display.remove_task(self._bars.pop(name))

    def close(self) -> None:
        if self._display is not None:
            self._display.stop()
            self._display = None

    def _opened(self) -> "Progress":
        if self._display is None:
            # Only a build that has something to do pays for this import.
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[text]}", markup=False),
            )
            self._display = Progress(*columns, transient=True)
            self._display.start()
        return self._display


def screen() -> Screen:
    """The one that suits standard output."""
    return Terminal() if sys.stdout.isatty() else Screen()
