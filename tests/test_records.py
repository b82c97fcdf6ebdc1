"""Records: what is believed, what is not, and why."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from zoo import atomic, records
from zoo.records import NoRecord, Record

INPUTS = {
    "settings": {"schedule": {"optimizer": {"lr": 0.01, "type": "SGD"}, "epochs": 3}, "teacher": True},
    "upstream": {"data": "d" * 64, "surgery": "5" * 64},
    "code": "c" * 64,
    "libraries": {"torch": "2.14.1"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A step's folder with two outputs and a record."""
    files = [tmp_path / "metrics.json", tmp_path / "deep" / "model.safetensors"]
    files[1].parent.mkdir()
    for file in files:
        file.write_bytes(file.name.encode() * 50)
    outputs = records.describe(tmp_path, files)
    record = Record("train", "m", records.key_of(INPUTS), INPUTS, outputs, {"top1": 0.9}, 1.5, "2026-01-01T00:00:00")
    records.write(tmp_path, record)
    return tmp_path


def changed(**parts: object) -> dict:
    return json.loads(json.dumps(INPUTS | parts))


def test_a_record_that_was_written_is_read_back_and_current(folder: Path) -> None:
    record = records.read(folder)
    assert (record.step, record.model, record.summary, record.seconds) == ("train", "m", {"top1": 0.9}, 1.5)
    assert set(record.outputs) == {"metrics.json", "deep/model.safetensors"}
    assert records.why_stale(folder, INPUTS) is None


def test_the_key_does_not_depend_on_the_order_of_settings() -> None:
    assert records.key_of(dict(reversed(INPUTS.items()))) == records.key_of(INPUTS)


def test_the_digest_follows_contents(folder: Path) -> None:
    before = records.read(folder)
    (folder / "metrics.json").write_text("other")
    files = [folder / path for path in before.outputs]
    after = replace(before, outputs=records.describe(folder, files))
    assert after.digest != before.digest


def test_who_does_not_read_a_file_does_not_see_it_change(folder: Path) -> None:
    before = records.read(folder)
    (folder / "metrics.json").write_text("other")
    after = replace(before, outputs=records.describe(folder, [folder / path for path in before.outputs]))
    assert after.digest_without(frozenset({"metrics.json"})) == before.digest_without(frozenset({"metrics.json"}))
    assert after.digest_without(frozenset({"deep/model.safetensors"})) != before.digest_without(
        frozenset({"deep/model.safetensors"})
    )
    assert before.digest_without(frozenset({"none.json"})) == before.digest


@pytest.mark.parametrize("path", ["metrics.json", "deep/model.safetensors"])
@pytest.mark.parametrize("damage", ["delete", "truncate", "flip"])
def test_a_damaged_output_is_found(folder: Path, path: str, damage: str) -> None:
    file = folder / path
    content = file.read_bytes()
    if damage == "delete":
        file.unlink()
    else:
        file.write_bytes(content[:-1] if damage == "truncate" else bytes([content[0] ^ 1]) + content[1:])
    reason = records.why_stale(folder, INPUTS)
    assert reason is not None
    assert reason.startswith(path)


def test_a_touched_output_is_hashed_and_believed(folder: Path) -> None:
    os.utime(folder / "metrics.json", ns=(1, 1))
    assert records.why_stale(folder, INPUTS) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"step": "train"}', '{"outputs": []}', "\xff"])
def test_a_damaged_record_is_not_believed(folder: Path, content: str) -> None:
    (folder / records.NAME).write_text(content, encoding="latin-1")
    with pytest.raises(NoRecord, match="damaged"):
        records.read(folder)
    assert records.why_stale(folder, INPUTS) == "its record is damaged"


def test_a_folder_without_record_is_not_built(tmp_path: Path) -> None:
    assert records.why_stale(tmp_path / "nowhere", INPUTS) == "not built yet"


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (
            {"settings": {"schedule": {"optimizer": {"lr": 0.02, "type": "SGD"}, "epochs": 3}, "teacher": True}},
            "schedule.optimizer.lr changed from 0.01 to 0.02",
        ),
        ({"upstream": {"data": "e" * 64, "surgery": "5" * 64}}, "what data left changed"),
        ({"code": "0" * 64}, "its code changed"),
        ({"libraries": {"torch": "2.15.0"}}, "torch changed from 2.14.1 to 2.15.0"),
        ({"settings": {"schedule": None, "teacher": True}}, "schedule changed from {'epochs': 3"),
    ],
)
def test_the_reason_names_what_changed(folder: Path, parts: dict, reason: str) -> None:
    assert str(records.why_stale(folder, changed(**parts))).startswith(reason)


def test_outputs_outside_of_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").write_text("")
    with pytest.raises(ValueError, match="not in the subpath"):
        records.describe(tmp_path / "a", [tmp_path / "b"])


def test_an_interrupted_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "new" / "index.json"
    atomic.write_json(file, {"b": 1, "a": "é"})
    assert file.read_text(encoding="utf-8") == '{\n  "a": "é",\n  "b": 1\n}\n'

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic, "replace_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        atomic.write_text(file, "new")
    assert [place.name for place in file.parent.iterdir()] == ["index.json"]
    assert json.loads(file.read_text()) == {"a": "é", "b": 1}


def test_nan_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        atomic.write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []
