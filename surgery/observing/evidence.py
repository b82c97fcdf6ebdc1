"""What rules may know about the model at hand: what its forward does, and what calibration data measures."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from surgery.errors import one_line
from surgery.observing import alike
from surgery.observing.forward import is_one_call
from surgery.observing.names import of_module
from surgery.observing.nesting import is_within, outer_names
from surgery.observing.observe import Call, ModuleRun, Observation, observe
from surgery.observing.prepared import Prepared
from surgery.observing.receiving import holding, received_inside
from surgery.observing.trace import Traced, Untraceable, compiled, trace
from surgery.observing.written import written_names
from surgery.operating.example import Example
from surgery.operating.modes import restored_modes
from surgery.operating.undo import preserved
from surgery.operating.verify import broken_promise, same_within
from surgery.record import Promise
from surgery.warm_start import DEFAULT, WarmStart

_UNKNOWN = object()
Ran = TypeVar("Ran")

# Bytes of what modules received and returned that are held at once, some tensors counted twice. What the modules of a
# transformer at 768 pixels receive and return takes up 12 GB, and the time to fill as much memory.
ROOM = 2**30


class Evidence:
    """Observations of a model that is being operated on, made when first asked for.

    ``example`` are inputs (None: only what can be told without running the model); ``calibration`` are batches of
    model inputs (None: there are none). Whoever changes a module says so with ``changed``; then that module alone is
    run again on what it received before.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Example | None,
        calibration: Iterable[Tensor] | None,
        warm_start: WarmStart = DEFAULT,
    ) -> None:
        self.model = model
        self.warm_start = warm_start
        self.example = example
        self.calibration = calibration
        self.running_seconds = 0.0  # spent in forward passes of the example, and in copies of what they are given
        self.first_output: Any = _UNKNOWN  # of the model before any change
        self.rewritten = Prepared[Traced]()  # graphs
        self.replacements = Prepared[nn.Module]()  # modules that are to take another one's place
        self.decided = False  # a traced graph holds a shape of the example for constant
        self._whole: Observation | None = None  # of the model as it is
        self._runs: dict[str, ModuleRun] | None = None
        self._held = 0  # bytes of data in the runs
        self._pending = 0  # and in those that were not taken over yet
        self._expected: set[str] = set()  # modules that are about to run again
        self._received: dict[str, Example] = {}  # of those, what was computed together with that of another one
        self._calls: dict[str, list[Call]] = {}
        self._unobserved: set[str] = set()  # modules that changed since they ran
        self._stale: set[str] = set()  # modules with another output than when they ran, of the same shape
        self._modules: list[tuple[str, nn.Module]] | None = None
        self._own: dict[str, tuple[set[str], set[str]]] | None = None
        self._traced: dict[Hashable, Traced] = {}  # one for all modules that are alike

    def modules(self) -> list[tuple[str, nn.Module]]:
        """All modules by qualified name, each once."""
        if self._modules is None:
            self._modules = list(self.model.named_modules())
        return self._modules

    def observation(self) -> Observation | None:
        """One forward of the model as it is, or None without example inputs. Tells which calls read which tensors."""
        if self._whole is None and self.example is not None:
            example = self.example
            self._runs, self._calls = None, {}  # what two observations of a large model hold may not fit into memory
            self._whole = self._timed(lambda: _observe_whole(self.model, example))
            self._held, self._pending = _held(self._whole.runs), 0
            if self.first_output is _UNKNOWN:
                self.first_output = self._whole.output
            self._runs, self._unobserved, self._stale = dict(self._whole.runs), set(), set()
            self._calls, self._own = self._whole.by_module(), None
        return self._whole

    def run(self, name: str) -> ModuleRun | None:
        """What a module received and returned, if it ran; values may be of an earlier state or absent, not shapes."""
        self._bring_up_to_date()
        return (self._runs or {}).get(name)

    def calls(self, name: str) -> Sequence[Call]:
        """The calls that a module's own forward made."""
        self._bring_up_to_date()
        return self._calls.get(name, ())

    def recorded(self, name: str) -> ModuleRun:
        """The run of a module as it was before the last changes. Raises KeyError where it never ran."""
        return (self._runs or {})[name]

    def has_run(self, name: str) -> bool:
        """Whether a module ran on the example inputs, before the last changes."""
        return name in (self._runs or {})

    def is_current(self, name: str) -> bool:
        """Whether a recorded output is what the module gave for these arguments before the last changes."""
        return name not in self._stale and self.recorded(name).is_intact()

    def received(self, name: str) -> Example:
        """A copy of what a module received, computed again where it was not held. Raises KeyError if it never ran."""
        run = self.recorded(name)
        if run.has_inputs:
            return self._timed(Example(run.args, run.kwargs).copy)
        if name not in self._received:
            self._received |= self._receive(name)
        return self._received.pop(name)

    def expect(self, names: Iterable[str]) -> None:
        """Say which modules are about to run again: what they received is computed for several at once."""
        self._expected, self._received = set(names), {}

    def _receive(self, name: str) -> dict[str, Example]:
        """What a module received, and the expected ones that are in the same innermost module of known inputs."""
        runs = self._runs or {}
        around = holding(name, runs)
        beside = {n for n in self._expected if n in runs and not runs[n].has_inputs and holding(n, runs) == around}
        inside = {n: self.model.get_submodule(n) for n in {name, *beside}}
        once = all(runs[n].count == runs[around].count for n in inside)
        given, module = self.received(around), self.model.get_submodule(around)

        def run() -> dict[str, Example]:
            with preserved(module):
                return received_inside(module, given, inside, once)

        return self._timed(run)

    def rerun(self, name: str) -> Observation:
        """Run one module again on what it received. Raises what the module raises, KeyError where it never ran."""
        arguments, module = self.received(name), self.model.get_submodule(name)

        def once() -> Observation:
            with preserved(module):
                room = ROOM - self._held - self._pending
                return observe(module, arguments.args, arguments.kwargs, name, room)

        seen = self._timed(once)
        self._pending += _held(seen.runs)
        return seen

    def changed(self, name: str, seen: Observation | None = None) -> None:
        """A module was changed. ``seen`` is a run of it since then."""
        self._modules = self._whole = self._own = None
        self._received = {}
        self.rewritten.changed(name)
        self.replacements.changed(name)
        if self._runs is None:
            return
        self._stale.update(outer_names(name), (name,))
        if seen is not None and name in self._runs:
            self._take(name, seen)
        elif name in dict(self.modules()):
            self._unobserved.add(name)
        else:
            self._forget(name)

    def traced(self, name: str, method: str | None = None) -> Traced | Untraceable:
        """The graphs of a module's own forward, for a rule to rewrite; see ``Match`` for what their nodes know."""
        prefix = f"{name}." if name else ""
        module, run = self.model.get_submodule(name), self.run(name)
        kind = alike.key(module, run), method
        if kind in self._traced:
            return self._traced[kind].copy(module)
        found = trace(module, run, lambda child: self.run(f"{prefix}{child}"), method)
        if isinstance(found, Traced) and run is not None and (fault := self._unfaithful(module, name, found)):
            found = Untraceable(fault)
        if isinstance(found, Traced):
            self.decided |= found.decided
            if found.is_of_any_alike():
                self._traced[kind] = found.copy(module)
        return found

    def _unfaithful(self, module: nn.Module, name: str, traced: Traced) -> str | None:
        """Why a graph, before anything is rewritten in it, is not what the module does on what it received."""
        try:
            received = self.received(name)
            expected, found = self._timed(lambda: self._both(module, name, traced, received))
        except Exception as error:  # whatever the traced code leads to
            return f"traced, it fails on its own inputs: {one_line(error, 200)}"
        within = same_within([expected, received.args, received.kwargs])
        return broken_promise(Promise.SAME_OUTPUT, expected, found, "traced, its output", within)

    def _both(self, module: nn.Module, name: str, traced: Traced, received: Example) -> tuple[Any, Any]:
        """What a module gives for what it received, and what the code of its graph gives."""
        with preserved(module), restored_modes(module), torch.no_grad():
            module.eval()
            expected = self.recorded(name).output if self.is_current(name) else received.copy().call(module)
            forward, _ = compiled(traced.evaluate)
            return expected, forward(module, *received.args, **received.kwargs)

    def own_calls(self, sets: Iterable[frozenset[str]], inplace_only: bool = False) -> dict[str, set[str]]:
        """Modules whose own forward has all operations of one of the sets, at least one of them as a call.

        ``inplace_only`` passes over calls that were seen to leave their input alone.
        """
        sets = tuple(sets)
        found: dict[str, set[str]] = {}
        for name, (calls, children) in self._operations().items():
            if inplace_only and self._runs is not None:
                calls = {call.function for call in self._calls.get(name, ()) if call.inplace}
            hit = {name for wanted in sets if wanted & calls and wanted <= calls | children for name in wanted & calls}
            if hit:
                found[name] = hit
        return found

    def _operations(self) -> Mapping[str, tuple[set[str], set[str]]]:
        """What each module's own forward calls, and the operations that its children stand for."""
        self._bring_up_to_date()
        if self._own is None:
            self._own = {}
            for name, module in self.modules():
                if is_one_call(module):
                    continue
                observed = self._runs is not None
                calls = {c.function for c in self._calls.get(name, ())} if observed else set(written_names(module))
                if calls:
                    children = (of_module(child) for child in module._modules.values() if child is not None)
                    self._own[name] = calls, {child for child in children if child}
        return self._own

    def _bring_up_to_date(self) -> None:
        if self._runs is None:
            self.observation()
        for name in sorted(self._unobserved):
            self._unobserved.discard(name)
            if self._runs is not None and name in self._runs:
                self._take(name, self.rerun(name))

    def _take(self, name: str, seen: Observation) -> None:
        """Put a new run of a module and of all inside it in the place of the old one."""
        runs = self._runs or {}
        before = runs[name]
        self._forget(name)
        run = seen.runs[name]
        if self._held + run.held > ROOM:
            run = run.lightened(inputs=not self.model.get_submodule(name)._modules)
        taken = {**seen.runs, name: replace(run, count=before.count)}
        runs.update(taken)
        self._held, self._pending = self._held + _held(taken), 0
        self._calls |= seen.by_module()
        self._stale.update(outer_names(name))

    def _forget(self, name: str) -> None:
        """Take out all that is known of a module and of all inside it."""
        self._own = None
        prefix = f"{name}." if name else ""
        for known in (self._runs or {}, self._calls):
            for inside in [other for other in known if other.startswith(prefix) or other == name]:
                if known is self._runs:
                    self._held -= self._runs[inside].held
                del known[inside]
        self._stale = {other for other in self._stale if not is_within(other, name)}
        self._unobserved = {other for other in self._unobserved if not is_within(other, name)}

    def _timed(self, run: Callable[[], Ran]) -> Ran:
        start = perf_counter()
        try:
            return run()
        finally:
            self.running_seconds += perf_counter() - start


def _observe_whole(model: nn.Module, example: Example) -> Observation:
    copied = example.copy()
    with preserved(model):
        return observe(model, copied.args, copied.kwargs, room=ROOM)


def _held(runs: Mapping[str, ModuleRun]) -> int:
    return sum(run.held for run in runs.values())
