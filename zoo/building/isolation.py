"""Runs a step in a process of its own, forked from a server that has torch already imported.

A crash, a hang or an out-of-memory in one step is that step's failure and nobody else's.
"""

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from threading import Lock

from zoo.building import step_process
from zoo.job import Job
from zoo.records import Inputs

LIBRARIES = ("torch", "torchvision", "mmengine.runner", "onnxscript", "onnxruntime")

# What a step that has done its work may take to end by itself: killed at once, it leaves the locks of libraries behind.
ENDING_SECONDS = 5.0

Report = Callable[[str, float], None]  # what has been done, which fraction (0-1) of the step that is


class Isolation:
    """Starts the server with the first step; may be used from several threads."""

    def __init__(self, package: str, threads: int, preload: Sequence[str] = LIBRARIES) -> None:
        self._package = package
        self._threads = threads
        self._preload = preload
        self._running: set[int] = set()
        self._lock = Lock()
        self._stopped = False
        self._context = multiprocessing.get_context("forkserver")

    def run(
        self, job: Job, inputs: Inputs, log: Path, timeout: float, report: Report, *, force: bool = False
    ) -> str | None:
        """Run a step to its end; returns None, or in one line why it failed.

        ``timeout`` in seconds, counted from when no other build works in the step's folder. What another build has
        done meanwhile is not done again, unless ``force``.
        """
        for folder in (job.folder, log.parent):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                return f"{folder}: {error.strerror}; make it a folder that can be written"
        receiver, sender = self._context.Pipe(duplex=False)
        with receiver:
            with sender:
                process = self._start(job, (job, inputs, self._package, log, sender, force))
            if process is None:
                return "the build was stopped"
            try:
                return self._follow(process, receiver, timeout, report)
            finally:  # also on Ctrl-C
                self._kill(process)

    def stop(self) -> None:
        """End every step at once and start no more."""
        with self._lock:
            self._stopped = True
            for pid in self._running:
                _kill_group(pid)

    def _start(self, job: Job, arguments: tuple[object, ...]) -> ForkServerProcess | None:
        process = self._context.Process(target=step_process.main, args=arguments, name=f"{job.step}:{job.model}")
        with self._lock:
            if self._stopped:
                return None
            self._prepare_server()
            process.start()
            if process.pid is not None:
                self._running.add(process.pid)
        return process

    def _prepare_server(self) -> None:
        """Takes effect with the first step. Libraries read their number of threads when the server loads them."""
        for variable in step_process.THREAD_VARIABLES:
            os.environ[variable] = str(self._threads)
        # __main__ is what every child would otherwise import again.
        self._context.set_forkserver_preload(["__main__", *self._preload, "zoo.building.step_process"])

    def _follow(self, process: ForkServerProcess, receiver: Connection, timeout: float, report: Report) -> str | None:
        deadline: float | None = None
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = wait([receiver, process.sentinel], left)
            if not ready:
                return f"timed out after {timeout / 60:g} minutes"
            try:
                message = receiver.recv() if receiver in ready else None
            except (EOFError, OSError):
                message = None
            match message:
                case step_process.Started():
                    deadline = time.monotonic() + timeout
                case step_process.Ended():
                    process.join(ENDING_SECONDS)
                    return message.cause
                case (str(text), float() | int() as fraction):
                    report(text, fraction)
                case None:  # it has ended, and all that it said has been read
                    process.join()
                    return _crash(process.exitcode)

    def _kill(self, process: ForkServerProcess) -> None:
        """End what is left of the step, data-loading processes too."""
        if process.pid is not None:
            _kill_group(process.pid)
            if process.is_alive():  # it has not made its group yet
                process.kill()
            process.join()
            with self._lock:
                self._running.discard(process.pid)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _crash(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = "; perhaps memory ran out: fewer steps at once need less" if name == "SIGKILL" else ""
        return f"crashed with {name}{hint}"
    return f"ended without a result (exit code {exitcode})"
