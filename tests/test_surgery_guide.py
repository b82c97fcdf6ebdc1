"""The guide to surgery is true: its examples run and print what it shows, its table and its pictures are current."""

import inspect
import io
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import redirect_stdout
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest

import surgery
from surgery.__main__ import main

GUIDES = Path(__file__).parents[1] / "docs" / "guides"
GUIDE = GUIDES / "surgery.md"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide's scripts can be imported."""
    monkeypatch.setattr(sys, "path", [str(GUIDES), *sys.path])


def examples(text: str) -> Iterator[tuple[int, str, str | None]]:
    """Line, code and shown output of each example."""
    pattern = r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?"
    for found in re.finditer(pattern, text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, found.start()) + 2, found[1], found[2]


def test_examples_run_and_print_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    session = types.ModuleType("guide")
    monkeypatch.setitem(sys.modules, "guide", session)
    found = list(examples(GUIDE.read_text(encoding="utf-8")))
    assert len(found) >= 20
    for line, code, shown in found:
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile("\n" * (line - 1) + code, str(GUIDE), "exec"), vars(session))
        assert printed.getvalue() == (shown or ""), f"{GUIDE}:{line}"


def test_text_blocks_follow_their_example() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    assert text.count("```text") == sum(shown is not None for _, _, shown in examples(text))


def test_the_table_holds_every_rule_as_it_is() -> None:
    from rule_table import table

    text = GUIDE.read_text(encoding="utf-8")
    assert table() in text, "run python docs/guides/rule_table.py"
    for name in surgery.rules():
        assert text.count(f"\n| `{name}` |") == 1


def test_messages_are_those_of_the_library() -> None:
    _, _, limits = GUIDE.read_text(encoding="utf-8").partition("\n## Limits")
    rows = re.findall(r"^\| (`.*`) \| [^|]+ \|$", limits, re.MULTILINE)
    messages = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]
    assert len(messages) >= 15
    package = Path(surgery.__file__).parent
    source = re.sub(r'"\s*f?"', "", "".join(file.read_text(encoding="utf-8") for file in package.rglob("*.py")))
    for message in messages:
        assert all(part in source for part in message.split("...")), message


def test_the_command_tells_about_all_or_some_rules(capsys: pytest.CaptureFixture[str]) -> None:
    main(["silu_to_relu", "gelu_to_relu"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["gelu_to_relu", "silu_to_relu"]
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "List the rules" in capsys.readouterr().out
    for wrong, message in (["nix"], "no rule named nix"), (["--fast"], "unrecognized arguments: --fast"):
        with pytest.raises(SystemExit, match="2"):
            main(wrong)
        assert message in capsys.readouterr().err


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", GUIDE.read_text(encoding="utf-8")):
        name, _, heading = target.partition("#")
        file = GUIDES / name if name else GUIDE
        assert file.is_file(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M)
            assert heading in {re.sub(r"[^a-z -]", "", each.lower()).replace(" ", "-") for each in headings}, target


def test_pictures_are_what_the_library_draws_and_are_in_the_guide() -> None:
    from draw import FOLDER, PICTURES, drawn

    assert {file.stem for file in FOLDER.glob("*")} == set(PICTURES)
    for name in PICTURES:
        assert (FOLDER / f"{name}.svg").read_text(encoding="utf-8") == drawn(name), "run python docs/guides/draw.py"
        assert f"](drawings/{name}.svg)" in GUIDE.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", sorted((GUIDES / "drawings").glob("*.svg")), ids=lambda file: file.stem)
def test_pictures_are_legible(file: Path) -> None:
    root = ElementTree.parse(file).getroot()
    for half in ("before", "after"):
        boxes = [g for g in root.iter(f"{SVG}g") if (g.get("data-box") or "").startswith(half)]
        assert len(boxes) >= 3
        for one, other in combinations([_sides(box) for box in boxes], 2):
            apart = one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]
            assert apart, f"{one} overlaps {other}"
        for box in boxes:
            left, top, right, bottom = _sides(box)
            for text in box.iter(f"{SVG}text"):
                width = 7 / 12 * float(text.get("font-size", "12")) * len(text.text or "")
                x, y = float(text.get("x", "nan")), float(text.get("y", "nan"))
                assert left <= x - width / 2, text.text
                assert x + width / 2 <= right, text.text
                assert top < y - 8, text.text
                assert y + 2 < bottom, text.text
                assert _contrast(text.get("fill", ""), box.find(f"{SVG}rect").get("fill", "")) >= 4.5
    lines = {path.get("stroke", "") for path in root.iter(f"{SVG}path")} - {""}
    assert all(_contrast(line, page) >= 3 for line in lines for page in ("#ffffff", "#0d1117"))


def _sides(box: ElementTree.Element) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of its frame."""
    rect = box.find(f"{SVG}rect")
    assert rect is not None
    x, y, width, height = (float(rect.get(key, "nan")) for key in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def _contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, as the Web Content Accessibility Guidelines 2.1 define it."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_list_of_rules_may_be_cut_off() -> None:
    command = f"{sys.executable} -u -m surgery | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1


def test_explain_takes_the_arguments_of_lite() -> None:
    assert inspect.signature(surgery.explain).parameters == inspect.signature(surgery.lite).parameters
