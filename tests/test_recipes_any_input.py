"""Whatever stands in a recipe or config: a library, or problems with file, line and fact; never a traceback."""

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_checkout import TEXTS, write

from zoo.errors import InvalidInput
from zoo.reading import library


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("playground"), TEXTS)


def load_with(root: Path, file: str, content: bytes) -> None:
    """Load the checkout with one file replaced: a library, or problems that are each one line about a line."""
    write(root, {file: content})
    lines = content.count(b"\n") + content.count(b"\r") + 2
    try:
        loaded = library.load(root)
        assert set(loaded.recipes) == {"mobilenet_v2_lite"}
    except InvalidInput as error:
        for problem in error.problems:
            assert str(problem).isprintable()
            assert problem.fact
            assert problem.file in TEXTS
            assert 1 <= problem.line <= (lines if problem.file == file else 20)
    finally:
        write(root, {file: TEXTS[file]})


FILES = st.sampled_from(list(TEXTS))
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
WORDS = st.sampled_from(["source", "library", "model", "tasks", "classification", "train", "rules", "default", "mean"])
TREES = st.recursive(
    PLAIN | WORDS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN | WORDS, inner, max_size=4)
)
INSERTED = st.sampled_from(
    [*"\n\t:[]{}|>'\"%\x00\u2028é/\\", "", "  ", "- ", "&a ", "*a", "!!python/name:os ", "---\n", "<<: ", "? ", "# "]
)
RELAXED = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@RELAXED
@given(file=FILES, content=st.binary(max_size=200))
def test_any_bytes_give_problems_or_a_library(playground: Path, file: str, content: bytes) -> None:
    load_with(playground, file, content)


@RELAXED
@given(file=FILES, tree=TREES)
def test_any_yaml_gives_problems_or_a_library(playground: Path, file: str, tree: object) -> None:
    load_with(playground, file, yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"))


@RELAXED
@given(file=FILES, cut=st.tuples(st.integers(0, 400), st.integers(0, 12)), inserted=st.lists(INSERTED, max_size=3))
def test_any_slip_of_the_pen_gives_problems_or_a_library(
    playground: Path, file: str, cut: tuple[int, int], inserted: list[str]
) -> None:
    text = TEXTS[file]
    begin = cut[0] % len(text)
    load_with(playground, file, (text[:begin] + "".join(inserted) + text[begin + cut[1] :]).encode())


@RELAXED
@given(file=FILES, value=TREES, field=st.integers(0, 20))
def test_any_value_of_any_field_gives_problems_or_a_library(
    playground: Path, file: str, value: object, field: int
) -> None:
    data = yaml.safe_load(TEXTS[file])
    data[sorted(data)[field % len(data)]] = value
    load_with(playground, file, yaml.safe_dump(data, allow_unicode=True).encode("utf-8", "surrogatepass"))
