"""Steps that run at once share the cores and never have more threads than there are cores."""

import pytest

from zoo.building import cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "available", lambda: 8)


@pytest.mark.parametrize(("steps", "threads"), [(1, 8), (2, 4), (3, 2), (8, 1), (20, 1)])
def test_each_of_several_steps_has_its_share(steps: int, threads: int) -> None:
    assert cores.per_step(steps) == threads


def test_the_last_models_share_what_the_others_leave() -> None:
    shares = cores.Shares(4)
    shares.expect(["a", "a", "b", "c", "d", "e"])
    seen = [shares.threads()]
    for name in ("a", "b", "c", "d", "a"):
        shares.ended(name)
        seen.append(shares.threads())
    assert seen == [2, 2, 2, 2, 4, 8]


def test_never_more_than_the_workers_share() -> None:
    shares = cores.Shares(2)
    assert shares.threads() == 4, "nothing is known yet"
    shares.expect("abcdef")
    assert shares.threads() == 4
