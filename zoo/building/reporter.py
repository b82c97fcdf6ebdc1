"""What a build says: a line for each step that ran, and at the end what failed and what was not run because of it."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from doit.exceptions import BaseFail, UnmetDependency
from doit.task import Task

from zoo.building.build import Build
from zoo.durations import duration
from zoo.records import NEVER_BUILT


class Reporter:
    """doit's reporter protocol. Tasks are named ``step:model``; those without actions are only groups of others."""

    desc = "a line for each step that ran, a table of what failed"

    def __init__(self, build: Build) -> None:
        self._build = build
        self._counts: Counter[str] = Counter()
        self._failed: dict[str, str] = {}  # task -> cause
        self._not_run: dict[str, str] = {}  # task -> the failed task because of which
        self._errors: list[str] = []
        self._started = time.monotonic()
        self._width = min(30, max(map(len, build.library.recipes), default=0))

    def initialize(self, tasks: Mapping[str, Task], selected_tasks: Iterable[str]) -> None:
        """Called before the first task."""
        steps = (name for name in _with_all_before(tasks, selected_tasks) if tasks[name].actions)
        self._build.shares.expect(name.partition(":")[2] for name in steps)

    def get_status(self, task: Task) -> None:
        """Called before a task is asked whether it is current."""

    def execute_task(self, task: Task) -> None:
        """Called when a step starts."""
        if task.actions:
            step, name = _split(task)
            reason = self._build.why.get((step, name)) or "asked for"
            if reason != NEVER_BUILT:
                self._line(name, step, f"runs again: {reason}")

    def add_success(self, task: Task) -> None:
        """Called when a step has ended well."""
        if task.actions:
            step, name = _split(task)
            seconds, figures = self._build.summary(step, name)
            self._counts["done"] += 1
            self._build.shares.ended(name)
            self._line(name, step, f"{duration(seconds)}  {shown(figures)}".rstrip())

    def skip_uptodate(self, task: Task) -> None:
        """Called for a step that is current."""
        self._counts["current"] += 1
        self._build.shares.ended(_split(task)[1])

    def skip_ignore(self, task: Task) -> None:
        """Called for a step that the user told doit to ignore."""
        self._counts["ignored"] += 1

    def add_failure(self, task: Task, fail: BaseFail) -> None:
        """Called when a step failed, or cannot run because one before it failed."""
        if task.actions:
            self._build.shares.ended(_split(task)[1])
        if isinstance(fail, UnmetDependency):
            because = fail.message.split()[0]
            self._not_run[task.name] = self._not_run.get(because, because)
        else:
            self._failed[task.name] = (str(fail.message).strip().splitlines() or ["failed"])[-1]
            step, name = _split(task)
            self._line(name, step, f"failed: {self._failed[task.name]}")
            if fail.traceback:
                self._errors.append("".join(fail.traceback))
        if not task.actions:
            self._not_run.pop(task.name, None)

    def cleanup_error(self, exception: BaseFail) -> None:
        """Called when a teardown failed."""
        self._errors.append(exception.get_msg())

    def runtime_error(self, msg: str) -> None:
        """Called for an error of doit itself."""
        self._errors.append(msg)

    def teardown_task(self, task: Task) -> None:
        """Called before a teardown."""

    def complete_run(self) -> None:
        """Called at the end, also of a build that was interrupted."""
        self._build.stop()
        for line in [*self._errors, *self._table(), self._total()]:
            self._build.screen.line(line)

    def _table(self) -> list[str]:
        rows = []
        for task, cause in self._failed.items():
            step, name = task.split(":", 1)
            rows.append(f"  {name}  {step}: {cause}")
            rows.append(f"    log: {self._build.log(step, name)}")
            if stopped := [other for other, because in self._not_run.items() if because == task]:
                rows.append(f"    not run because of it: {_listed(stopped, name)}")
        return ["", "failed:", *rows, ""] if rows else []

    def _total(self) -> str:
        counts = {**self._counts, "failed": len(self._failed), "not run": len(self._not_run)}
        parts = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "none"
        return f"steps: {parts}; {duration(time.monotonic() - self._started)}"

    def _line(self, name: str, step: str, text: str) -> None:
        self._build.screen.line(f"{name:<{self._width}}  {step:<8}  {text}")


def _with_all_before(tasks: Mapping[str, Task], selected: Iterable[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(selected)
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting += tasks[name].task_dep
    return found


def shown(figures: Mapping[str, Any]) -> str:
    """A step's figures on one line."""
    return "  ".join(f"{name} {_figure(name, value)}" for name, value in figures.items())


def _figure(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1%}".replace("%", " %") if name.startswith("top") else f"{value:.3g}"
    return str(value)


def _split(task: Task) -> tuple[str, str]:
    step, _, name = task.name.partition(":")
    return step, name


def _listed(tasks: list[str], failed_name: str) -> str:
    names = [task.split(":", 1) for task in tasks]
    if all(name == failed_name for _, name in names):
        return ", ".join(step for step, _ in names)
    return f"{len(names)} steps of {len({name for _, name in names})} models"
