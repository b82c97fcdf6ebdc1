"""How many processor cores this process may use, and each of several steps that run at once."""

import os
from pathlib import Path


def available() -> int:
    """Cores that this process may run on: its affinity, and the control group's share where there is one."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, _cgroup_limit() or affinity))


def per_step(steps_at_once: int) -> int:
    """Threads for each step such that all together have no more threads than cores."""
    return max(1, available() // max(1, steps_at_once))


def _cgroup_limit(file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int | None:
    try:
        quota, period = file.read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no such control group, or "max"
        return None
