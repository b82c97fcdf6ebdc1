"""The guide to linting is true: its commands print what it shows."""

import re
import sys
from pathlib import Path

import pytest

from zoo import commands
from zoo.linting.report import Verdict

GUIDES = Path(__file__).parents[1] / "docs" / "guides"
GUIDE = (GUIDES / "lint.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter, as whoever types the guide's lines sees them
def test_commands_print_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(GUIDES), *sys.path])
    from console import CONSOLE, with_output

    assert len(CONSOLE.findall(GUIDE)) == GUIDE.count("```console") >= 4
    assert with_output(GUIDE, tmp_path) == GUIDE, "run python docs/guides/console.py"


def test_every_verdict_is_explained_and_every_command_is_one() -> None:
    for verdict in Verdict:
        assert GUIDE.count(f"\n| {verdict} |") == 1
    named = set(re.findall(r"(?:^\$ |`|^|run: )zoo ([a-z]+)", GUIDE, re.MULTILINE))
    assert named >= {"lint", "list", "surgery", "targets"}
    assert named <= set(commands.names())


def test_its_table_of_contents_is_its_headings() -> None:
    listed = re.findall(r"^- \[(.*)\]\(#(.*)\)$", GUIDE, re.MULTILINE)
    headings = re.findall(r"^## (.*)$", GUIDE, re.MULTILINE)
    assert [title for title, _ in listed] == headings
    assert [anchor for _, anchor in listed] == [title.lower().replace(" ", "-") for title in headings]
