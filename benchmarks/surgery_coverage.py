"""What surgery with the default rules does to every model family: does it work, and what unfriendly is left?

    .venv/bin/python benchmarks/surgery_coverage.py                       # all of torchvision, timm and mmyolo
    .venv/bin/python benchmarks/surgery_coverage.py --library timm --only convnext_atto vit_tiny_patch16_224
    .venv/bin/python benchmarks/surgery_coverage.py --subset ci           # 30 models for every change
    .venv/bin/python benchmarks/surgery_coverage.py --times               # how long surgery takes, and nothing else

One process a model, random weights, the model's default input size, batch 2. Each column is a share of the models
that can be asked (a model of one fixed size cannot be asked for another). Seconds are CPU seconds of graph work:
surgery without construction of the model and without its forward passes. Exits with 1 where a goal is missed, but for
those of time; with --times, where a model fails.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import surgery_models

# Smallest share of the models that is good enough, by column; other columns are for information.
GOALS = {"finished": 1.0, "forward": 1.0, "backward": 1.0, "batch": 1.0, "names": 1.0, "untouched": 1.0, "clean": 0.95}
COLUMNS = ("finished", "forward", "backward", "shape", "batch", "size", "names", "untouched", "clean")
MEDIAN_SECONDS = 0.25
LONGEST_SECONDS = 10.0
REFUSED_SHARE = 0.01

Row = dict[str, Any]


def main() -> int:
    """Run what was asked for, print tables, say what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", choices=surgery_models.LIBRARIES)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="models by name, or by a part of it with a *")
    parser.add_argument("--subset", choices=["ci"])
    parser.add_argument("--times", action="store_true", help="ask nothing of the results but for how long they took")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one model; large ones learn slowly")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write all rows")
    options = parser.parse_args()
    chosen = surgery_models.chosen(options.library, options.only, options.subset)
    if not chosen:
        parser.error("no such model")
    for name in options.only or ():
        if not surgery_models.chosen(options.library, [name], options.subset):
            parser.error(f"no such model: {name}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes to come
    if not options.times:
        # glibc would keep what large tensors leave free in its heap, in pieces: 17 GB instead of 7 for the largest
        # models. Each tensor has pages of its own then, which copies of a model take longer for.
        os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(4 * 2**20))
    rows = run(chosen, options.jobs, options.timeout, options.times)
    missed = [] if options.times else misses(rows)
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "misses": missed}, indent=1, sort_keys=True) + "\n")
    if options.times:
        print("\n".join(times(rows)))
        return 1 if any("error" in row for row in rows) else 0
    print("\n".join(report(rows)))
    return 1 if any(not miss.endswith(" s") for miss in missed) else 0  # a busy machine is no fault


def run(chosen: Iterable[tuple[str, str]], jobs: int, timeout: float, times: bool = False) -> list[Row]:
    """One row for each (library, model), sorted, whatever becomes of its process; with ``times`` of seconds alone."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torchvision", "timm", "surgery_trial"])
    with ThreadPoolExecutor(jobs) as pool:
        rows = list(pool.map(lambda pair: _row(context, *pair, timeout, times), chosen))
    return sorted(rows, key=lambda row: (row["library"], row["model"]))


def _row(context: Any, library: str, model: str, timeout: float, times: bool) -> Row:
    row: Row = {"library": library, "model": model, "stage": "start"}
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_in_process, args=(library, model, theirs, times), daemon=True)
    process.start()
    theirs.close()
    end = time.monotonic() + timeout
    with contextlib.suppress(EOFError):
        while ours.poll(max(0.0, end - time.monotonic())):
            key, value = ours.recv()
            row[key] = value
    if process.is_alive() and time.monotonic() >= end:
        process.kill()
        row["error"] = f"not done after {timeout:g} s"
    process.join()
    if process.exitcode and "error" not in row:
        row["error"] = f"the process died with exit code {process.exitcode}"
    print(_time(row) if times else _line(row), file=sys.stderr, flush=True)
    return row


def _in_process(library: str, model: str, pipe: Connection, times: bool) -> None:
    import torch
    from surgery_trial import trial

    torch.set_num_threads(1)
    tell = lambda key, value: pipe.send((key, value))  # noqa: E731
    silence = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        warnings.simplefilter("ignore")
        try:
            trial(library, model, tell, times)
        except Exception as error:  # a model that fails is a row
            tell("error", f"{type(error).__name__}: {' '.join(str(error).split())[:500]}")
    tell("megabytes", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def report(rows: Sequence[Row]) -> list[str]:
    """Lines of text: a table per library with its totals, causes by number of models, goals that are missed."""
    lines = []
    for library in sorted({row["library"] for row in rows}):
        own = [row for row in rows if row["library"] == library]
        lines += [f"== {library}", _head(), *map(_line, own), *_totals(own), ""]
    for title, causes in (("errors", _errors), ("refusals", _refusals), ("left", _left)):
        counted = Counter(cause for row in rows for cause in set(causes(row)))
        lines += [f"== {title}, by number of models"] if counted else []
        lines += [
            f"{count:4} {cause}" for cause, count in sorted(counted.items(), key=lambda item: (-item[1], item[0]))
        ]
    return [*lines, *(f"missed: {miss}" for miss in misses(rows))]


def times(rows: Sequence[Row]) -> list[str]:
    """Lines of text: each library's median and longest, and those of all."""
    libraries = {row["library"]: [other for other in rows if other["library"] == row["library"]] for row in rows}
    groups = {**libraries, "all": rows} if len(libraries) > 1 else libraries
    lines = [f"{library:12} {len(_seconds(own)):3} models, {_spent(_seconds(own))}" for library, own in groups.items()]
    return lines + [f"{row['model']}: {cause}" for row in rows for cause in _errors(row)]


def _time(row: Row) -> str:
    seconds = f"{row['seconds']:6.2f} s" if "seconds" in row else f"{'-':>6}  "
    return f"{row['model']:58} {seconds}{''.join(f'  {cause}' for cause in _errors(row))}"


def _spent(seconds: Sequence[float]) -> str:
    return f"median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s" if seconds else "no times"


def _head() -> str:
    figures = f"{'before':>6} {'left':>4} {'edits':>5} {'refused':>7} {'s':>6} {'MB':>6}"
    return f"{'model':58} {' '.join(f'{column:9}' for column in COLUMNS)} {figures}"


def _line(row: Row) -> str:
    answers = " ".join(f"{_word(row, column):9}" for column in COLUMNS)
    figures = f"{row.get('unfriendly_before', 0):6} {len(row.get('left', ())):4} "
    figures += f"{sum(row.get('edits', {}).values()):5} {len(row.get('refusals', ())):7} {row.get('seconds', 0):6.2f}"
    trouble = f"  {row['stage']}: {row['error']}" if "error" in row else ""
    return f"{row['model']:58} {answers} {figures} {row.get('megabytes', 0):6}{trouble}"


def _word(row: Row, column: str) -> str:
    value = row.get(column, False)
    return "-" if value is None else "yes" if value is True else "NO"


def _totals(rows: Sequence[Row]) -> list[str]:
    shares = " ".join(f"{_share(rows, column):9.1%}" for column in COLUMNS)
    refused = f"{_refused(rows):.1%} of sites refused with something unfriendly in them, {_declined(rows):.1%} without"
    return [f"{f'{len(rows)} models':58} {shares}", f"{'':58} {_spent(_seconds(rows))}, {refused}"]


def _share(rows: Sequence[Row], column: str) -> float:
    asked = [row.get(column, False) for row in rows if row.get(column, False) is not None]
    return sum(value is True for value in asked) / len(asked) if asked else 1.0


def _seconds(rows: Sequence[Row]) -> list[float]:
    return [row["seconds"] for row in rows if "seconds" in row]


def _refused(rows: Sequence[Row]) -> float:
    """Share of sites that a rule left although something unfriendly is in them."""
    return _of_sites(rows, [refusal for row in rows for refusal in row.get("refusals", ()) if _is_needed(refusal, row)])


def _declined(rows: Sequence[Row]) -> float:
    """Share of sites that a rule left where nothing unfriendly is: a permute, a factor that could not be folded."""
    return _of_sites(
        rows, [refusal for row in rows for refusal in row.get("refusals", ()) if not _is_needed(refusal, row)]
    )


def _is_needed(refusal: Mapping[str, str], row: Row) -> bool:
    site = refusal["site"]
    return "left" not in row or any(f"{left['module']}.".startswith(f"{site}." if site else "") for left in row["left"])


def _of_sites(rows: Sequence[Row], some: Sequence[Any]) -> float:
    refused = sum(len(row.get("refusals", ())) for row in rows)
    sites = refused + sum(sum(row.get("edits", {}).values()) for row in rows)
    return len(some) / sites if sites else 0.0


def _errors(row: Row) -> list[str]:
    found = [f"{row['stage']}: {row['error']}"] if "error" in row else []
    return found + [f"{column}: {row[column]}" for column in COLUMNS if isinstance(row.get(column), str)]


def _refusals(row: Row) -> list[str]:
    return [f"{refusal['rule']}: {refusal['reason']}" for refusal in row.get("refusals", ())]


def _left(row: Row) -> list[str]:
    return [f"{fault['operator']} in {fault['module_class']}" for fault in row.get("left", ())]


def misses(rows: Sequence[Row]) -> list[str]:
    """The goals that are missed, in words."""
    found = []
    for library in sorted({row["library"] for row in rows}):
        own = [row for row in rows if row["library"] == library]
        for column, goal in GOALS.items():
            if (share := _share(own, column)) < goal:
                found.append(f"{library}: {column} {share:.1%}, goal {goal:.0%}")
        if _refused(own) > REFUSED_SHARE:
            found.append(f"{library}: {_refused(own):.1%} of sites refused, goal {REFUSED_SHARE:.0%} at most")
        seconds = _seconds(own)
        if seconds and statistics.median(seconds) > MEDIAN_SECONDS:
            found.append(f"{library}: median {statistics.median(seconds):.2f} s, goal {MEDIAN_SECONDS} s")
        if seconds and max(seconds) > LONGEST_SECONDS:
            found.append(f"{library}: longest {max(seconds):.2f} s, goal {LONGEST_SECONDS} s")
    return found


if __name__ == "__main__":
    sys.exit(main())
