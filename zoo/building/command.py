"""``doit run`` for this pipeline (pyproject.toml names it): no database, threads shared out, an orderly end."""

import gc
import signal
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

from doit.cmd_run import Run
from doit.dependency import Dependency, DependencyStatus, JsonDB
from doit.doit_cmd import set_var
from doit.exceptions import InvalidCommand
from doit.task import Task

STEPS_AT_ONCE = "steps_at_once"  # how dodo.py learns of doit's option -n


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a build as Ctrl-C does."""


class Records(Dependency):  # type: ignore[misc]  # doit has no types
    """What doit asks whether a task is current: our records alone, and a second faster for 1,000 models."""

    def __init__(self) -> None:
        super().__init__(Forgetful, "")

    def get_status(self, task: Task, _tasks: object, get_log: bool = False) -> DependencyStatus:
        """A group of tasks always "runs", which does nothing."""
        status = DependencyStatus(get_log)
        if not all(is_current(*args) for is_current, args, _ in task.uptodate) or not task.uptodate:
            status.status = "run"
        return status


class Forgetful(JsonDB):  # type: ignore[misc]  # doit has no types
    """doit's database, without a file: truth is in the records, and two builds never wait for each other here."""

    def __init__(self, name: str, codec: object, *, module_name: str | None = None) -> None:
        self.name = name
        self.codec = codec
        self._db: dict[str, dict[str, Any]] = {}

    def dump(self) -> None:
        """Nothing is kept."""


class Build(Run):  # type: ignore[misc]  # doit has no types
    """Exit codes: 0 all is built, 1 something failed, 2 bad input, 130 and 143 interrupted."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dep_manager = Records()

    def execute(self, params: Mapping[str, Any], args: list[str]) -> int:
        """Load dodo.py and run the tasks that ``args`` name."""
        set_var(STEPS_AT_ONCE, max(1, params["num_process"]))
        signal.signal(signal.SIGTERM, _terminate)
        gc.set_threshold(
            100_000
        )  # a thousand models' tasks and records live to the end: looking at them again is waste
        try:
            return 1 if super().execute(params, args) else 0
        except InvalidCommand as error:
            if error.not_found is None:
                raise
            print(f"'{error.not_found}' is not a task; see `doit list --all`", file=sys.stderr)
            return 2
        except Terminated:
            print("terminated; what is finished is kept", file=sys.stderr)
            return 143
        except KeyboardInterrupt:
            print("interrupted; what is finished is kept", file=sys.stderr)
            return 130


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated
