"""One build: which steps of which models there are, which are current, and running one that is not."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from zoo import index, plan, records
from zoo.building import code_version, cores
from zoo.building.isolation import LIBRARIES, Isolation
from zoo.building.screen import Screen, screen
from zoo.job import Job
from zoo.reading.library import Library
from zoo.records import Inputs, NoRecord, Record

DATA = "data"
NOT_INDEXED = "the index does not hold the release"
NOT_PUBLISHED = "a published file is missing or damaged"
MISSING = "missing"  # stands for the outputs of a step that has no record


class Build:
    """The steps of a profile's models below ``artifacts``; a model's step is named by (step, model)."""

    def __init__(
        self,
        library: Library,
        profile: str,
        *,
        steps_at_once: int = 1,
        package: str = "zoo.steps",
        preload: Sequence[str] = LIBRARIES,
    ) -> None:
        """``package`` holds the steps' modules; raises UnknownName for a profile that does not exist."""
        plan.check_profile(library, profile)
        self.library = library
        self.profile = profile
        self.shared = library.root / "artifacts" / profile
        self._root = str(self.shared)
        self.package = package
        self.shares = cores.Shares(steps_at_once)
        self.screen: Screen = screen()
        self.isolation = Isolation(package, cores.per_step(steps_at_once), preload)
        self.why: dict[tuple[str, str], str | None] = {}  # why a step has to run, where that was asked
        self._records: dict[tuple[str, str], Record] = {}
        self._models = cache(lambda name: plan.model(library, name, profile))
        code = Path(__file__).parents[2]
        self._tree = code_version.Tree(
            tuple(dict.fromkeys((code, library.root))),
            frozenset({"zoo", "surgery", package.partition(".")[0]}),
            self.shared / ".code.json",
        )

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """Names of the datasets that the profile's models need."""
        return tuple(sorted({self._models(name).task.dataset for name in self.library.recipes}))

    def names(self, step: str) -> tuple[str, ...]:
        """What a step is done for: datasets or models."""
        return self.datasets if step == DATA else tuple(self.library.recipes)

    def after(self, step: str, name: str) -> tuple[tuple[str, str], ...]:
        """The steps that must be done before."""
        return self._named(() if step == DATA else plan.STEPS[step].after, name)

    def is_current(self, step: str, name: str) -> bool:
        """Whether what the step left is what it would leave now."""
        reason = self.why[step, name] = self._why_stale(step, name)
        return reason is None

    def run(self, step: str, name: str) -> str | None:
        """Run a step; returns None, or in one line why it failed."""
        for upstream, other in self._upstream(step, name):
            if self._record(upstream, other) is None:
                return f"{upstream} of {other} is not built; run `doit {upstream}:{other}`"
        inputs = self.inputs(step, name)
        job = Job(
            step=step,
            model=name,
            profile=self.profile,
            folder=self.folder(step, name),
            shared=self.shared,
            settings=inputs["settings"],
            upstream={upstream: self.folder(upstream, other) for upstream, other in self._upstream(step, name)},
            key=records.key_of(inputs),
            threads=self.shares.threads(),
        )
        title = f"{name}  {step}"
        timeout = plan.timeout_minutes(self.library, self.profile, step) * 60
        try:
            cause = self.isolation.run(
                job,
                inputs,
                self.log(step, name),
                timeout,
                lambda text, fraction: self.screen.progress(title, text, fraction),
                force=self.why.get((step, name)) in (None, NOT_INDEXED, NOT_PUBLISHED),  # its record is current
            )
        finally:
            self.screen.finished(title)
            self._records.pop((step, name), None)
        return cause or (None if self._record(step, name) else "left no record")

    def stop(self) -> None:
        """End every running step."""
        self.isolation.stop()
        self.screen.close()
        self._tree.remember()

    def summary(self, step: str, name: str) -> tuple[float, Mapping[str, Any]]:
        """Seconds that the step took, and its figures."""
        record = self._record(step, name)
        return (record.seconds, record.summary) if record else (0.0, {})

    def folder(self, step: str, name: str) -> Path:
        """Where a step writes."""
        return Path(self._place(step, name))

    def _place(self, step: str, name: str) -> str:
        """The folder as text: 1,000 models have 7,000, and making a Path takes longer than reading a file."""
        return f"{self._root}/{DATA}/{name}" if step == DATA else f"{self._root}/{name}/{step}"

    def log(self, step: str, name: str) -> Path:
        """What a step printed when it last ran."""
        return self.shared / (f"{DATA}/{name}.log" if step == DATA else f"{name}/logs/{step}.log")

    def _named(self, steps: tuple[str, ...], name: str) -> tuple[tuple[str, str], ...]:
        return tuple((step, self._models(name).task.dataset if step == DATA else name) for step in steps)

    def _upstream(self, step: str, name: str) -> tuple[tuple[str, str], ...]:
        return self._named(() if step == DATA else plan.STEPS[step].reads, name)

    def inputs(self, step: str, name: str) -> Inputs:
        """What the step is made of."""
        version = self._tree.version(f"{self.package}.{step}", self._used(step, name))
        read = {upstream: self._record(upstream, other) for upstream, other in self._upstream(step, name)}
        unread = frozenset() if step == DATA else plan.STEPS[step].passes_over
        return {
            "settings": self._settings(step, name),
            "upstream": {
                upstream: record.digest_without(unread) if record else MISSING for upstream, record in read.items()
            },
            "code": version.code,
            "libraries": version.libraries,
        }

    def _settings(self, step: str, name: str) -> plan.Settings:
        if step == DATA:
            return plan.data_settings(name, self.library.datasets[name])
        return plan.STEPS[step].settings(self._models(name))

    def _used(self, step: str, name: str) -> code_version.Used:
        if step == DATA:
            dataset = self.library.datasets[name]
            made_by = (("zoo.datasets", dataset.generator),) if dataset.generator else ()
            return (("zoo.layouts", dataset.layout), *made_by)
        return self._models(name).used

    def _why_stale(self, step: str, name: str) -> str | None:
        folder = self._place(step, name)
        try:
            record = self._read(step, name)
        except NoRecord as error:
            return str(error)
        reason = records.why_record_stale(folder, record, self.inputs(step, name))
        if reason is None and step == "index" and not self._is_indexed(folder):
            return NOT_INDEXED
        if reason is None and step == "release" and not self._is_published(name, folder, record):
            return NOT_PUBLISHED
        return reason

    def _is_published(self, name: str, folder: str, record: Record) -> bool:
        version = record.summary.get("version")
        copy = Path(folder, "release.json")  # made after the published files, which do not change again
        return not isinstance(version, int) or index.is_whole(self.shared / "zoo", name, version, copy)

    def _is_indexed(self, folder: str) -> bool:
        entry = json.loads(Path(folder, "entry.json").read_bytes())
        return index.holds(self.shared / "zoo", entry["name"], entry["version"], entry)

    def _record(self, step: str, name: str) -> Record | None:
        try:
            return self._read(step, name)
        except NoRecord:
            return None

    def _read(self, step: str, name: str) -> Record:
        """Each record is read once, and again after its step has run."""
        if (step, name) not in self._records:
            self._records[step, name] = records.read(self._place(step, name))
        return self._records[step, name]


def steps() -> Iterator[str]:
    """Every step in the order of the pipeline."""
    yield DATA
    yield from plan.STEPS
