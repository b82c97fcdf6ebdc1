"""The pipeline as doit sees it: tasks named ``step:model`` that ask the records whether they are current."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from doit.doit_cmd import get_var
from doit.exceptions import TaskFailed

from zoo.building.build import Build
from zoo.building.command import STEPS_AT_ONCE
from zoo.building.isolation import LIBRARIES
from zoo.building.reporter import Reporter
from zoo.errors import ZooError
from zoo.reading import library

LAST = "index"  # the step that makes a model's build complete

TaskDict = dict[str, Any]


class Pipeline:
    """doit's tasks of one build."""

    def __init__(self, build: Build) -> None:
        self.build = build
        self.doit_config = {
            "default_tasks": ["build"],
            "reporter": Reporter(build),
            "par_type": "thread",
            "continue": True,
            "sort": "definition",
            "backend": "json",  # of commands that run nothing; a build asks the records alone
            "dep_file": str(build.library.root / ".doit.json"),
        }

    def step(self, step: str) -> Iterator[TaskDict]:
        """One task for each model, or dataset."""
        for name in self.build.names(step):
            yield {
                "name": name,
                "actions": [(self._run, [step, name])],
                "task_dep": [f"{before}:{other}" for before, other in self.build.after(step, name)],
                "uptodate": [(self.build.is_current, [step, name])],
                "io": {"capture": False},
            }

    def all_steps(self) -> Iterator[TaskDict]:
        """One group for each model, of all its steps."""
        for name in self.build.names(LAST):
            yield {"name": name, "actions": None, "task_dep": [f"{LAST}:{name}"]}

    def starter(self) -> TaskDict:
        """The group of the profile's starter models."""
        names = self.build.library.profiles[self.build.profile].starter
        return {"actions": None, "task_dep": [f"{LAST}:{name}" for name in names]}

    def _run(self, step: str, name: str) -> TaskFailed | None:
        cause = self.build.run(step, name)
        return TaskFailed(cause) if cause else None


def load(root: Path, package: str = "zoo.steps", preload: Sequence[str] = LIBRARIES) -> Pipeline:
    """The pipeline of a checkout, in the profile that the command line names as ``profile=NAME``.

    ``package`` holds the steps; ``preload`` are modules that many steps need, imported once for all of them.
    Where recipes or configs are wrong all problems are printed and the process exits with code 2.
    """
    try:
        declared = library.load(root)
        profile, steps_at_once = get_var("profile", "demo"), get_var(STEPS_AT_ONCE, 1)
        build = Build(declared, profile, steps_at_once=steps_at_once, package=package, preload=preload)
    except ZooError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    return Pipeline(build)
