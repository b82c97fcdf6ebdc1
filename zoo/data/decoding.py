"""Looking at every pixel of a dataset, by several processes."""

import os
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path

from zoo.data.contents import Sample
from zoo.data.looking import Look, look
from zoo.errors import DatasetError

CHUNK = 64  # samples that a process is given at a time


def looked_at(samples: Sequence[Sample], root: Path, num_classes: int, *, jobs: int) -> Iterator[Look]:
    """A look at each sample, decoded, in their order; by ``jobs`` processes where they are more than a few.

    Raises DatasetError where a process is killed.
    """
    chunks = [samples[start : start + CHUNK] for start in range(0, len(samples), CHUNK)]
    looks = partial(_looks, root=root, num_classes=num_classes)
    if jobs == 1 or len(chunks) == 1:
        for chunk in chunks:
            yield from looks(chunk)
        return
    # Not fork: the parent has threads, such as those of a progress bar.
    context = get_context("forkserver")
    with ProcessPoolExecutor(min(jobs, len(chunks)), mp_context=context, initializer=_begin) as pool:
        try:
            for found in pool.map(looks, chunks):
                yield from found
        except BrokenProcessPool as error:
            raise DatasetError(
                f"{root}: a process that decoded images was killed, maybe for want of memory; use fewer --jobs"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Ctrl-C is the parent's to answer; where that is killed, nobody else ends what it started."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


def _looks(samples: Sequence[Sample], root: Path, num_classes: int) -> list[Look]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow's, on what it can decode all the same
        return [look(sample, root, num_classes, decode=True) for sample in samples]
