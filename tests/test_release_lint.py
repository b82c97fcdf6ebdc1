"""What a manifest says of the targets that a released model runs on."""

from dataclasses import replace

from zoo.linting.report import Judged, Report, Summary, Verdict
from zoo.releases.lint import Lint, fields


def report(*verdicts: Verdict) -> Report:
    nodes = tuple(Judged(f"n{place}", "Conv", "", "", verdict) for place, verdict in enumerate(verdicts))
    return Report("model", "chip", "", nodes, (), Summary(len(nodes), len(nodes), 0, 0, (), None))


def test_a_target_that_cannot_be_judged_is_not_listed_as_one_that_takes_the_model() -> None:
    known, unknown = report(Verdict.ACCELERATED), report(Verdict.ACCELERATED, Verdict.UNKNOWN)
    written = fields(known, {"chip": known, "other": replace(unknown, target="other")}, {})
    assert Lint.model_validate(written).clean_on == ("chip",)


def test_a_release_is_clean_where_its_own_target_is_listed() -> None:
    unknown = report(Verdict.ACCELERATED, Verdict.UNKNOWN)
    lint = Lint.model_validate(fields(unknown, {"chip": unknown}, {}))
    assert (lint.clean, lint.clean_on) == (False, ())
