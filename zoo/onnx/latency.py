"""How long two models take on this machine's CPU, measured in turn so that both meet the same weather."""

import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
from torch import Tensor

from zoo.onnx.session import Session

WARM_UP = 5
ROUNDS = 100
FEWEST_ROUNDS = 20
SECONDS = 20.0


@dataclass(frozen=True)
class Timing:
    """Milliseconds per image: the median of all rounds, and the quartiles as its spread."""

    median_ms: float
    first_quartile_ms: float
    third_quartile_ms: float


@dataclass(frozen=True)
class Latency:
    """Source and lite model, batch 1, alternated in one run."""

    source: Timing
    lite: Timing
    speed_up: float  # median over the rounds of source's time over lite's
    rounds: int
    threads: int
    runtime: str
    machine: str


def measure(source: Session, lite: Session, image: Tensor, *, threads: int) -> Latency:
    """Run both in turn on one image (1, C, H, W), at most ``ROUNDS`` times and, from ``FEWEST_ROUNDS``, 20 seconds."""
    sessions = (source, lite)
    pixels = image.numpy()
    times: tuple[list[float], list[float]] = ([], [])
    started = time.monotonic()
    for number in range(WARM_UP + ROUNDS):
        if number >= WARM_UP + FEWEST_ROUNDS and time.monotonic() - started > SECONDS:
            break
        for session, taken in zip(sessions, times, strict=True):
            before = time.perf_counter_ns()
            session.run(pixels)
            taken.append((time.perf_counter_ns() - before) / 1e6)
    measured = [taken[WARM_UP:] for taken in times]
    timings = [_timing(taken) for taken in measured]
    return Latency(
        source=timings[0],
        lite=timings[1],
        speed_up=speed_up(*measured),
        rounds=len(times[0]) - WARM_UP,
        threads=threads,
        runtime=f"onnxruntime {onnxruntime.__version__}, CPU",
        machine=processor(),
    )


def speed_up(source: Sequence[float], lite: Sequence[float]) -> float:
    """The median of the rounds' ratios: what slows a whole round down for a while cancels out."""
    return round(statistics.median(before / after for before, after in zip(source, lite, strict=True)), 3)


def _timing(milliseconds: Sequence[float]) -> Timing:
    quarter, median, three_quarters = statistics.quantiles(milliseconds, n=4, method="inclusive")
    return Timing(round(median, 4), round(quarter, 4), round(three_quarters, 4))


def processor() -> str:
    """The CPU's model name where the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
