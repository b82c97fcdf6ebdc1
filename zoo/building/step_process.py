"""What happens in the process that one step runs in: log, locks, the step itself, its record."""

import contextlib
import errno
import fcntl
import importlib
import os
import resource
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path

from zoo import progress, records
from zoo.errors import ZooError
from zoo.job import Job
from zoo.records import Inputs, Record

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
KEPT = "partial"  # a step's own folder for what it resumes from


@dataclass(frozen=True)
class Started:
    """The step has its locks: from now on its time counts."""


@dataclass(frozen=True)
class Ended:
    """How it went; ``cause`` is one line, None when all is well."""

    cause: str | None = None


def main(job: Job, inputs: Inputs, package: str, log: Path, connection: Connection, force: bool) -> None:
    """Run ``<package>.<step>.run(job)`` in this process, which is the step's own."""
    os.setsid()  # data-loading processes are in this group, and end with it
    threading.Thread(target=_die_with_the_build, daemon=True).start()
    try:
        _write_to(log)
    except OSError as error:
        connection.send(Ended(f"{log}: {error.strerror}; make it a file that can be written"))
        return
    print(f"{_now()} {job.step} of {job.model}, profile {job.profile}, {job.threads} threads, key {job.key}")
    print(f"libraries: {dict(inputs['libraries'])}; again: {job.step}:{job.model} profile={job.profile}", flush=True)
    _use_threads(job.threads)
    try:
        with _locked(job):
            connection.send(Started())
            if not force and records.why_stale(job.folder, inputs) is None:
                print("another build has just done this")
            else:
                progress.connect(connection)
                _run(job, inputs, package)
        connection.send(Ended())
    except Exception as error:
        connection.send(Ended(_cause(error, job)))
        with contextlib.suppress(OSError):  # of a disk that is full the log has no room either
            if isinstance(error, ZooError):
                print(f"{_now()} failed: {error}")
            else:  # our own bug: the traceback is for the log, one line for the build's output
                traceback.print_exc()


def _cause(error: Exception, job: Job) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, ZooError):
        return text
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return f"{error.filename or job.folder}: {error.strerror}; make room there and build again: what is done stays"
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _run(job: Job, inputs: Inputs, package: str) -> None:
    started, clock = _now(), time.monotonic()
    _clear(job.folder)
    result = importlib.import_module(f"{package}.{job.step}").run(job)
    seconds = round(time.monotonic() - clock, 3)
    outputs = records.describe(job.folder, result.outputs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    record = Record(job.step, job.model, job.key, inputs, outputs, dict(result.summary), seconds, started, peak)
    records.write(job.folder, record)
    print(f"{_now()} done in {seconds:.1f} s, {peak} MB at most: {dict(result.summary)}")


def _clear(folder: Path) -> None:
    """Remove what an earlier run left, the record first: from then on nothing here is believed."""
    (folder / records.NAME).unlink(missing_ok=True)
    for place in folder.iterdir():
        if place.is_dir() and not place.is_symlink():
            if place.name != KEPT:
                shutil.rmtree(place)
        else:
            place.unlink()


@contextlib.contextmanager
def _locked(job: Job) -> Iterator[None]:
    """Alone in the step's folder, with nobody writing in those it reads; the system frees locks of killed steps."""
    with contextlib.ExitStack() as stack:
        for folder, kind in [*((f, fcntl.LOCK_SH) for f in job.upstream.values()), (job.folder, fcntl.LOCK_EX)]:
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for another build that works in {folder}", flush=True)
                fcntl.flock(descriptor, kind)
        yield


def _write_to(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    # The server's streams may be pipes or closed: new ones, line by line, so that a crash loses nothing.
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115


def _use_threads(threads: int) -> None:
    """Libraries that were loaded by the server have to be told; the others read OMP_NUM_THREADS when they load."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)
    if cv2 := sys.modules.get("cv2"):
        cv2.setNumThreads(threads)


def _die_with_the_build() -> None:
    """A build that is killed with SIGKILL cannot end its steps: they watch it."""
    build = parent_process()
    if build is not None:
        wait([build.sentinel])
        os.killpg(0, signal.SIGKILL)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
