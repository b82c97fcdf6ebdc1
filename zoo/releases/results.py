"""The before/after table of a zoo."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from zoo import index
from zoo.durations import duration
from zoo.metric_names import spelt
from zoo.releases import release
from zoo.releases.manifest import Evaluation, Manifest, Timing

HEADER = (
    "model",
    "metric",
    "before surgery",
    "after surgery",
    "fine-tuned",
    "training time",
    "input (px)",
    "MACs (M)",
    "parameters (M)",
    "latency (ms)",
    "speed-up",
)
STAND_IN = "It is a stand-in that the build generates: no figure compares with published ones."


def latest(zoo_folder: Path) -> list[Manifest]:
    """The newest version of every release in the index; raises as ``index.read`` and ``release.read`` do."""
    releases = index.read(zoo_folder)
    return [release.read(zoo_folder, name, max(versions))[0] for name, versions in sorted(releases.items())]


def cells(manifest: Manifest) -> tuple[str, ...]:
    """One row of the table."""
    accuracy, costs, latency = manifest.accuracy, manifest.costs, manifest.latency
    return (
        manifest.name if manifest.lite else f"{manifest.name} (not lite)",
        spelt(accuracy.headline),
        _percent(accuracy.source, accuracy.headline) + _epochs(accuracy.source),
        _percent(accuracy.after_surgery, accuracy.headline),
        _percent(accuracy.lite, accuracy.headline) + _epochs(accuracy.lite),
        f"{_time(accuracy.source)} -> {_time(accuracy.lite, accuracy.after_surgery)}",
        str(manifest.origin.preprocessing.size),
        f"{costs.source.macs / 1e6:.1f} -> {costs.lite.macs / 1e6:.1f}",
        f"{costs.source.parameters / 1e6:.2f} -> {costs.lite.parameters / 1e6:.2f}",
        f"{_timing(latency.source)} -> {_timing(latency.lite)}",
        f"{latency.speed_up:.2f}x",
    )


def _percent(evaluation: Evaluation, metric: str) -> str:
    return f"{evaluation.metrics[metric] * 100:.1f} %"


def _epochs(evaluation: Evaluation) -> str:
    return f" ({evaluation.epochs} ep.)" if evaluation.epochs else ""


def _time(evaluation: Evaluation, before: Evaluation | None = None) -> str:
    """How long a model was trained, and fitted ``before`` that; one that came with its weights, or needs no training,
    was not."""
    if not evaluation.epochs:
        return "none"
    fitted = (before and before.seconds) or 0.0
    return "unknown" if evaluation.seconds is None else duration(fitted + evaluation.seconds)


def _timing(timing: Timing) -> str:
    return f"{timing.median_ms:.2f} ({timing.first_quartile_ms:.2f}-{timing.third_quartile_ms:.2f})"


def footnote(manifests: Sequence[Manifest]) -> str:
    """What the figures were measured on and with, one line per different answer."""
    lines = []
    for manifest in manifests:
        measured, latency = manifest.accuracy.lite, manifest.latency
        lines.append(
            f"{spelt(manifest.accuracy.headline)}: on {measured.dataset}, {measured.images} validation images "
            f"(digest {measured.dataset_digest[:12]}), profile {manifest.provenance.profile}."
            + (f" {STAND_IN}" if manifest.accuracy.stand_in else "")
        )
        lines.append(
            f"Latency: median (quartiles) per image, {latency.runtime}, {latency.threads} thread(s), "
            f"{latency.machine}; MACs are FLOPs / 2."
        )
    return "\n".join(dict.fromkeys(lines))


def markdown(rows: Iterable[Sequence[str]]) -> str:
    """The table as Markdown."""
    lines = [HEADER, ("---",) + ("---:",) * (len(HEADER) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
