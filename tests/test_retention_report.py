"""What the benchmark of retention says of its figures: verdicts, tables, the plot."""

import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import retention
from retention_ablation import ablations
from retention_figures import Figures, spread, trained, untrained, verdicts
from retention_plot import plot
from retention_report import lines, trained_table, untrained_table
from retention_trials import ARMS, MODELS, TEACHING, UNFITTED, Trial, trial

MODEL = "mobilenet_v3_small"
ByEpochs = Mapping[int, tuple[float, ...]]  # figures by seed


def figures(a: ByEpochs, b: ByEpochs, source: float | None = 0.9) -> Figures:
    found = {} if source is None else {Trial(MODEL, 0, "source"): source}
    for arm, measured in (("a", a), ("b", b)):
        for epochs, values in measured.items():
            found |= {trial(MODEL, seed, ARMS[arm], epochs): value for seed, value in enumerate(values)}
    return as_figures(found)


def as_figures(found: Mapping[Trial, float]) -> Figures:
    return Figures({each: {"metric": "top1", "value": value} for each, value in found.items()})


@pytest.mark.parametrize(
    ("a", "b", "stands"),
    [
        ((0.1, 0.1, 0.1), (0.6, 0.7, 0.75), "met"),
        ((0.1, 0.1, 0.1), (0.6, 0.6, 0.7), "missed"),
        ((0.7, 0.7, 0.7), (0.7, 0.8, 0.9), "met"),
        ((0.7, 0.7, 0.7), (0.5, 0.6, 0.6), "missed"),
    ],
)
def test_before_training_three_quarters_are_kept(a: tuple[float, ...], b: tuple[float, ...], stands: str) -> None:
    verdict = untrained(figures({0: a}, {0: b}), MODEL)
    assert verdict.stands == stands
    assert ("not under 20 %" in verdict.words) == (a[0] > 0.2)


@pytest.mark.parametrize(
    ("lost_by_a", "lost_by_b", "stands"),
    [
        (0.20, 0.05, "met"),
        (0.20, 0.06, "missed"),
        (0.20, -0.01, "met"),
        (0.00, 0.00, "moot"),
        (-0.01, -0.02, "moot"),  # both gained, (b) more
        (-0.02, -0.01, "moot"),  # both gained, (a) more, which the words say
        (-0.04, -0.005, "missed"),  # of what (a) gained, less than a quarter
        (-0.02, 0.01, "missed"),
        (0.00, 0.01, "missed"),
    ],
)
def test_after_two_epochs_a_quarter_is_lost(lost_by_a: float, lost_by_b: float, stands: str) -> None:
    source = 0.9
    a, b = (tuple(source - lost + step for step in (-0.02, 0.0, 0.02)) for lost in (lost_by_a, lost_by_b))
    verdict = trained(figures({2: a}, {2: b}, source), MODEL)
    assert verdict.stands == stands
    assert ("ahead by" in verdict.words) == (lost_by_b <= lost_by_a <= 0)
    assert ("behind by" in verdict.words) == (lost_by_a <= 0 and lost_by_a < lost_by_b)


def test_seeds_are_compared_where_both_arms_and_the_source_are_there() -> None:
    partly = figures({2: (0.5, 0.6)}, {2: (0.7, 0.8, 0.2)})
    assert figures({2: (0.5, 0.6)}, {2: (0.7, 0.8, 0.2)}, source=None).arms(MODEL, 2) == ({}, {})
    assert partly.arms(MODEL, 2) == ({0: 0.5, 1: 0.6}, {0: 0.7, 1: 0.8})
    assert trained(partly, MODEL).words.endswith("(2 of 3 seeds)")
    assert trained(figures({}, {2: (0.7,)}), MODEL).stands == "open"
    assert "1 epoch" not in "".join(map(str, verdicts(partly, MODELS)))
    assert [each.stands for each in verdicts(partly, MODELS)].count("open") == 2 * len(MODELS) - 1


def test_a_missed_goal_is_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    missed = figures({0: (0.1,)}, {0: (0.1,)}, source=0.8)
    assert retention.told([str(each) for each in verdicts(missed, MODELS)]) == 1
    assert capsys.readouterr().out.startswith(f"missed: {MODEL}, before training (b) keeps 12.5 %")
    met = figures({0: (0.1,)}, {0: (0.8,)}, source=0.8)
    assert retention.told([str(each) for each in verdicts(met, MODELS)]) == 0


def test_tables_have_means_and_ends() -> None:
    measured = figures({0: (0.1, 0.1, 0.1), 2: (0.6, 0.7, 0.8)}, {0: (0.8, 0.9, 1.0), 2: (0.75, 0.85, 0.95)})
    *_, row, empty = untrained_table(measured, MODELS)
    assert empty == ""
    assert row == (
        f"| {MODEL} | top-1 | 90.0 % | 10.0 % (10.0 to 10.0) | 90.0 % (80.0 to 100.0) | 11.1 % (11.1 to 11.1) "
        "| 100.0 % (88.9 to 111.1) | - | 3 of 3 |"
    )
    *_, row, _ = trained_table(measured, MODELS)
    assert row == (
        f"| {MODEL} | 2 | 90.0 % | 70.0 % (60.0 to 80.0) | 85.0 % (75.0 to 95.0) | 20.0 (10.0 to 30.0) "
        "| 5.0 (-5.0 to 15.0) | 25.0 % | - | - | 3 of 3 |"
    )
    without = {trial(MODEL, 0, UNFITTED, epochs): value for epochs, value in ((0, 0.7), (2, 0.8))}
    beside = Figures({**measured.results, **as_figures(without).results})
    assert "| 77.8 % | 3 of 3 |" in untrained_table(beside, MODELS)[-2]
    assert "| 25.0 % | 10.0 | - | 3 of 3 |" in trained_table(beside, MODELS)[-2]
    assert ablations(beside) == []
    *_, row, _ = trained_table(figures({2: (0.8,)}, {2: (0.95,)}), MODELS)
    assert row.endswith("| 10.0 | -5.0 | (b) lost none | - | - | 1 of 3 |")
    *_, row, _ = trained_table(figures({2: (0.95,)}, {2: (0.8,)}), MODELS)
    assert row.endswith("| -5.0 | 10.0 | (a) lost none | - | - | 1 of 3 |")
    assert untrained_table(as_figures({}), MODELS) == ["Nothing is measured yet.\n"]
    assert (spread({}), spread({1: 0.5})) == ("-", "50.0 %")


def test_what_statistics_alone_account_for_is_told_and_decides_nothing() -> None:
    measured = figures({2: (0.6, 0.8)}, {2: (0.88, 0.89)})
    without = trained(measured, MODEL)
    for seed, anew in enumerate((0.86, 0.88)):
        measured.results[trial(MODEL, seed, ARMS["a"], 2)]["settled"] = anew  # type: ignore[index]
    told = trained(measured, MODEL)
    assert told.stands == without.stands == "met"
    assert without.words.endswith("goal 5.0 (2 of 3 seeds)")
    assert told.words.endswith("goal 5.0; with its statistics measured anew (a) 3.0 (2 of 3 seeds)")
    *_, row, _ = trained_table(measured, MODELS)
    assert row.endswith("| 3.0 (2.0 to 4.0) | 2 of 3 |")


def test_both_kinds_of_source_are_judged_alone() -> None:
    found = {Trial(MODEL, 0, "source"): 0.8, Trial(MODEL, 0, "source", is_long=True): 0.9}
    for is_long, b in ((False, 0.7), (True, 0.5)):
        for start, value in (("bare", 0.1), ("warm", b)):
            found[Trial(MODEL, 0, start, is_long=is_long)] = value
    told = lines(as_figures(found).results)
    assert len(told) == 2 * 2 * len(MODELS)
    assert [line for line in told if not line.startswith("open")] == [
        f"met: {MODEL}, before training (b) keeps 87.5 % of the source's, goal 75 %; (a) 12.5 % (1 of 3 seeds)",
        f"missed: {MODEL}, before training (b) keeps 55.6 % of the source's, goal 75 %; (a) 11.1 % (1 of 3 seeds), "
        "from a source trained for longer",
    ]


def test_the_ablation_has_a_row_for_each_part_and_none_is_made_up() -> None:
    assert ablations(figures({0: (0.1,)}, {0: (0.8,)})) == []
    found = {Trial(MODEL, 0, start): value for start, value in (("source", 0.9), ("bare", 0.1), ("warm", 0.8))}
    found |= {Trial(MODEL, 0, "only_refit"): 0.41, Trial(MODEL, 0, "default_but_gates"): 0.62}
    found |= {trial(MODEL, 0, TEACHING["features"], 2): 0.85}
    text = "\n".join(ablations(as_figures(found)))
    assert "(a):\n10.0 %; with those of recipe and schedule, which is (b): 80.0 %; with all of them: -." in text
    rows = {line.split("|")[1].split(":")[0].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert rows["refit"].endswith("| 41.0 % |  | - |")  # no part of the default
    assert rows["gates"].endswith("| - | 62.0 % | - |")
    assert rows["features"] == "| features | 85.0 % | 5.0 | 1 |"
    assert rows.keys() >= TEACHING.keys()


def test_the_plot_has_a_point_for_each_figure() -> None:
    measured = figures({0: (0.1, 0.1), 2: (0.6, 0.8)}, {0: (0.8, 0.9), 2: (0.75, 0.85), 5: (0.9,)})
    root = ElementTree.fromstring(plot(measured, MODELS))
    panels = root.findall("{*}g")
    assert len(panels) == len(MODELS) + 1
    assert [len(panel.findall("{*}circle")) for panel in panels] == [5, 0, 0, 0, 0, 2]
    assert [len(panel.findall("{*}polyline")) for panel in panels] == [2, 0, 0, 0, 0, 0]
    heights = [float(circle.get("cy", "nan")) for circle in panels[0].findall("{*}circle")]
    assert heights[0] == max(heights)  # 10 % is the lowest, and SVG counts downwards
    assert all(0 < height < 230 for height in heights)
