"""Where commands write: a file whole, a device or pipe as it is."""

import os
import threading
from pathlib import Path

import pytest

from zoo.errors import UnusableFile
from zoo.terminal import output_file


def test_a_pipe_is_written_into_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    output_file.write(pipe, "report\n")
    reader.join(timeout=10)
    assert read == ["report\n"]
    assert pipe.is_fifo()


def test_a_file_takes_the_place_of_another(tmp_path: Path) -> None:
    file = tmp_path / "report.txt"
    for text in ("long report\n", "short\n"):
        output_file.write(file, text)
        assert file.read_text() == text
    assert list(tmp_path.iterdir()) == [file]


def test_a_device_that_takes_nothing_is_said_in_one_line() -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(UnusableFile, match=r"^/dev/full: cannot be written: No space left on device"):
        output_file.write(Path("/dev/full"), "report\n")
