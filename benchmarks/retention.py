"""What surgery and training keep of a model's accuracy: a bare replacement of layers against this project's path.

    .venv/bin/python benchmarks/retention.py                           # all models, seeds and epochs: hours, see --list
    .venv/bin/python benchmarks/retention.py --models mobilenet_v3_small --seeds 0 1 2 --epochs 0 1 2 5
    .venv/bin/python benchmarks/retention.py --ablation                # what each part gives, mobilenet_v3_small
    .venv/bin/python benchmarks/retention.py --unfitted                # (b) without reconstruction
    .venv/bin/python benchmarks/retention.py --long --epochs 0 2       # from sources that are trained for longer
    .venv/bin/python benchmarks/retention.py --list                    # what is there, what is missing, how long
    .venv/bin/python benchmarks/retention.py --report                  # docs/retention.md and .svg from what is there

Both arms start from the same source, one for each model, trained here with the demo profile's schedule, and train with
that profile's fine-tuning schedule, augmentation and seed, each number of epochs with a decay of its own:
(a) without a warm start and without a teacher, (b) as `doit build` does it. See docs/retention.md.

Each result is a file under artifacts/retention, written when it is known; called again, this goes on with what is
missing, a training from its last epoch. The report keeps the figures in docs/retention.jsonl, where they count as
measured too. A result counts while recipe, profile and schedules say what they said; after a change of code,
--no-only-missing measures anew. Each trial is a process with one thread. Exits with 1 where a trial
failed or a goal is missed.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import retention_trials as trials
from retention_measure import Place, measure
from retention_report import goals, write
from retention_time import left, seconds
from retention_trials import Trial

from zoo.durations import duration
from zoo.errors import ZooError
from zoo.reading import library

REPOSITORY = Path(__file__).parents[1]
KEPT = "retention.jsonl"  # beside the report
ARTIFACTS = REPOSITORY / "artifacts" / "retention"


def main() -> int:
    """Do what was asked for; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="recipes without their _lite")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(trials.SEEDS))
    parser.add_argument(
        "--epochs", nargs="+", type=int, default=list(trials.EPOCHS), help="not of --ablation, --unfitted"
    )
    parser.add_argument("--ablation", action="store_true", help="each part of the path alone and off")
    parser.add_argument("--unfitted", action="store_true", help="(b) without its reconstruction, at 0 and 2 epochs")
    parser.add_argument("--long", action="store_true", help="from sources trained for two to four times as long")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    parser.add_argument(
        "--only-missing",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="leave results that are there; with --no-, remove those that are asked for first",
    )
    parser.add_argument("--list", action="store_true", help="what is there and missing; runs nothing")
    parser.add_argument("--report", action="store_true", help="write docs/retention.md, .svg and .jsonl; runs nothing")
    parser.add_argument("--measure", metavar="TRIAL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    place = Place(ARTIFACTS, library.load(REPOSITORY), REPOSITORY / "docs" / KEPT)
    if options.measure:
        return in_process(place, Trial.named(options.measure))
    unknown = [name for name in options.models or () if f"{name}_lite" not in place.library.recipes]
    if unknown or options.jobs < 1 or min(options.seeds) < 0 or min(options.epochs) < 0:
        parser.error(f"no recipe {unknown[0]}_lite" if unknown else "seeds and epochs are from 0, jobs from 1")
    if options.ablation and options.long:
        parser.error("--ablation is from the sources that the profile trains, not --long")
    if options.report:
        return told(write(place, REPOSITORY / "docs"))
    if options.unfitted:
        models = options.models or trials.MODELS
        chosen = trials.unfitted(
            [model for model in models if trials.is_reconstructed(place.library, model)], options.seeds
        )
    elif options.ablation:
        chosen = trials.ablation(options.models or trials.ABLATED, options.seeds)
    else:
        chosen = trials.experiment(options.models or trials.MODELS, options.seeds, options.epochs)
    if options.long:
        chosen = trials.long(chosen)
    if options.list:
        print("\n".join(listed(place, chosen, options.jobs)))
        return 0
    if not options.only_missing:
        for each in chosen:
            place.forget(each)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        failed = run(place, chosen, options.jobs)
    except KeyboardInterrupt:
        print("stopped; called again, this goes on from here")
        return 130
    return told(goals(place)) or bool(failed)


def told(lines: Sequence[str]) -> int:
    """Print how the goals stand; 1 where one is missed."""
    print("\n".join(lines))
    return int(any(line.startswith("missed") for line in lines))


def listed(place: Place, chosen: Sequence[Trial], jobs: int) -> list[str]:
    """A line for each trial, in the order in which they run, and how long the missing ones will take."""
    lines = []
    missing = place.missing(chosen)
    expected = seconds(place, missing)
    for each in chosen:
        result = place.result(each)
        if result is None or each in expected:
            words = f"missing, about {duration(expected[each])}"
            words += ", measured with other settings" if result is None and place.file(each).is_file() else ""
        else:
            words = f"{result['metric']} {result['value']:.1%} in {duration(result['seconds'])}"
        lines.append(f"{each.name:50} {words}")
    total = duration(left(place, missing, jobs))
    return [*lines, f"{len(chosen) - len(missing)} of {len(chosen)} there; the others take about {total}"]


def run(place: Place, chosen: Sequence[Trial], jobs: int) -> set[Trial]:
    """Measure what is missing, each in a process as soon as what it needs is there; those that failed."""
    missing = dict.fromkeys(place.missing(chosen))
    running: dict[Future[str], Trial] = {}
    failed: set[Trial] = set()
    processes: set[subprocess.Popen[bytes]] = set()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while missing or running:
                for each in [each for each in missing if each.needs in failed]:
                    del missing[each]
                    failed.add(each)
                    print(f"{each.name}: not tried, {each.needs.name if each.needs else ''} failed", flush=True)
                busy = set(running.values())
                ready = [each for each in missing if each.needs not in missing and each.needs not in busy]
                for each in ready[: jobs - len(running)]:
                    del missing[each]
                    running[pool.submit(_tried, place, each, processes)] = each
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    each = running.pop(future)
                    if words := future.result():
                        failed.add(each)
                    rest = duration(left(place, [*missing, *running.values()], jobs))
                    print(f"{each.name}: {words or _figure(place, each)}; about {rest} left", flush=True)
        except BaseException:  # also Ctrl-C: what runs is ended, and goes on the next time
            missing.clear()
            for process in processes:
                process.terminate()
            raise
    return failed


def _tried(place: Place, trial: Trial, processes: set["subprocess.Popen[bytes]"]) -> str:
    """Run one process to its end; why it failed, or nothing."""
    log = place.log(trial)
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, __file__, "--measure", trial.name], stdout=stream, stderr=stream, env=environment
        )
        processes.add(process)
        code = process.wait()
        processes.discard(process)
    if code == 0:
        return ""
    lines = log.read_text(errors="replace").splitlines()
    return f"failed ({code}): {lines[-1] if lines else 'without a word'}; see {log.relative_to(place.folder)}"


def _figure(place: Place, trial: Trial) -> str:
    result = place.result(trial)
    assert result is not None
    return f"{result['metric']} {result['value']:.1%} in {duration(result['seconds'])}"


def in_process(place: Place, trial: Trial) -> int:
    """One trial, here."""
    print(f"{trial.name}, {time.strftime('%Y-%m-%d %H:%M:%S')}", flush=True)
    try:
        result = measure(place, trial)
    except ZooError as error:
        print(error, flush=True)
        return 1
    print(f"{result['metric']} {result['value']:.4f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
