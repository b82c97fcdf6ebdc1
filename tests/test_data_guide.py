"""The guide to data is true: its commands print what it shows, and its table is the full profile's."""

import contextlib
import re
import sys
from pathlib import Path

import pytest
import yaml

from zoo import commands

REPOSITORY = Path(__file__).parents[1]
GUIDES = REPOSITORY / "docs" / "guides"
GUIDE = (GUIDES / "data.md").read_text(encoding="utf-8")


def test_commands_and_python_print_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [str(GUIDES), *sys.path])
    from console import CONSOLE, PYTHON, with_output

    assert len(CONSOLE.findall(GUIDE)) == GUIDE.count("```console") == 2
    assert with_output(GUIDE, tmp_path) == GUIDE, "run python docs/guides/console.py"
    capsys.readouterr()
    *_, last = PYTHON.findall(GUIDE)
    with contextlib.chdir(tmp_path):
        exec(last, {})
    assert f"{last}```\n\n```\n{capsys.readouterr().out}```\n" in GUIDE


def test_its_table_is_the_full_profile_s_data() -> None:
    profile = yaml.safe_load((REPOSITORY / "configs" / "profiles" / "full.yaml").read_text())
    for task in profile["tasks"].values():
        name = task["dataset"]
        dataset = yaml.safe_load((REPOSITORY / "configs" / "datasets" / f"{name}.yaml").read_text())
        (row,) = re.findall(rf"^\| `{name}` .*$", GUIDE, re.MULTILINE)
        assert f"`{dataset['root']}`" in row
        counts = [
            each for count in dataset["expected"].values() for each in (count if isinstance(count, list) else [count])
        ]
        assert all(f"{count:,}" in row for count in counts)


def test_every_command_is_one_and_its_table_of_contents_is_its_headings() -> None:
    assert (
        set(re.findall(r"(?:^\$ |`|^)zoo ([a-z]+)", GUIDE, re.MULTILINE)) == {"data", "show"} <= set(commands.names())
    )
    listed = re.findall(r"^- \[(.*)\]\(#(.*)\)$", GUIDE, re.MULTILINE)
    assert [title for title, _ in listed] == re.findall(r"^## (.*)$", GUIDE, re.MULTILINE)
    assert [anchor for _, anchor in listed] == [title.lower().replace(" ", "-") for title, _ in listed]
