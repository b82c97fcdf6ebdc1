"""Steps in processes of their own."""

import pytest
from conftest import Checkout, wait_for_the_end_of

from zoo import records
from zoo.building.build import Build
from zoo.reading import library


@pytest.fixture
def build(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> Build:
    """A build of the quick steps in this process, whose children find them by PYTHONPATH."""
    for name, value in checkout.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(checkout.root)
    return Build(library.load(checkout.root), "demo", package="fake_steps", preload=())


def test_a_step_writes_its_record_and_its_log(build: Build) -> None:
    assert not build.is_current("data", "digits")
    assert build.run("data", "digits") is None
    assert build.is_current("data", "digits")
    record = records.read(build.folder("data", "digits"))
    assert record.step == "data"
    assert record.inputs["settings"]["name"] == "digits"
    assert "done in" in build.log("data", "digits").read_text()


def test_progress_is_seen(build: Build, checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str, float]] = []
    monkeypatch.setattr(build.screen, "progress", lambda *message: seen.append(message))
    checkout.order("data", "digits", "report")
    assert build.run("data", "digits") is None
    assert seen == [("digits  data", f"epoch {i}", i / 5) for i in range(5)]


def test_a_hang_is_timed_out_and_leaves_nobody(
    build: Build, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.plan.timeout_minutes", lambda *_: 0.02)
    checkout.order("data", "digits", "hang")
    assert build.run("data", "digits") == "timed out after 0.02 minutes"
    pids = [int(pid) for pid in (checkout.root / "pids").read_text().split()]
    assert len(pids) == 2
    wait_for_the_end_of(pids)
    assert not build.is_current("data", "digits")


def test_what_a_step_resumes_from_is_kept(build: Build) -> None:
    partial = build.folder("data", "digits") / "partial"
    partial.mkdir(parents=True)
    (partial / "checkpoint").write_text("epoch 3")
    (partial.parent / "half").write_text("")
    assert build.run("data", "digits") is None
    assert (partial / "checkpoint").read_text() == "epoch 3"
    assert not (partial.parent / "half").exists()


def test_a_stopped_build_starts_nothing(build: Build) -> None:
    build.stop()
    assert build.run("data", "digits") == "the build was stopped"
    assert not build.log("data", "digits").exists()
