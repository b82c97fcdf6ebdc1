"""How many processor cores this process may use, and each of several steps that run at once."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path


def available() -> int:
    """Cores that this process may run on: its affinity, and the control group's share where there is one."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, _cgroup_limit() or affinity))


def per_step(steps_at_once: int) -> int:
    """Threads for each step such that all together have no more threads than cores."""
    return max(1, available() // max(1, steps_at_once))


class Shares:
    """Shares the cores between the steps that run at once.

    The steps of one model never run together, so there are at most as many as models with work left: the last model of
    a build gets all cores. Shares only grow, which is why all that run together never have more threads than cores.
    """

    def __init__(self, steps_at_once: int) -> None:
        self._steps_at_once = steps_at_once
        self._left: Counter[str] = Counter()  # model -> steps that have not ended

    def expect(self, names: Iterable[str]) -> None:
        """The models of all steps that the build will look at, one mention for each step."""
        self._left.update(names)

    def ended(self, name: str) -> None:
        """A step of a model has ended, was current, or will not run."""
        self._left[name] -= 1
        if self._left[name] <= 0:
            del self._left[name]

    def threads(self) -> int:
        """For a step that starts now."""
        return per_step(min(self._steps_at_once, len(self._left) or self._steps_at_once))


def _cgroup_limit(file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int | None:
    try:
        quota, period = file.read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no such control group, or "max"
        return None
