"""Where commands write: a file whole, a device or pipe as it is."""

import os
import subprocess
import sys
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


def test_what_a_link_leads_to_is_written_and_the_link_stays(tmp_path: Path) -> None:
    file, link = tmp_path / "report.txt", tmp_path / "link.txt"
    link.symlink_to(file.name)
    output_file.write(link, "report\n")
    assert link.is_symlink()
    assert file.read_text() == "report\n"


def test_a_redirected_stdout_is_neither_replaced_nor_emptied(tmp_path: Path) -> None:
    link = tmp_path / "stdout"  # as /dev/stdout, in a folder that may be written into
    link.symlink_to("/proc/self/fd/1")
    program = f"""
from pathlib import Path
from zoo.terminal import output_file
print("before")
output_file.write(Path({str(link)!r}), "report\\n")
print("after")
"""
    with (tmp_path / "redirected.txt").open("w") as stdout:
        subprocess.run([sys.executable, "-c", program], stdout=stdout, check=True, cwd=Path(__file__).parents[1])
    assert link.is_symlink()
    assert (tmp_path / "redirected.txt").read_text() == "before\nreport\nafter\n"


def test_a_full_disk_below_stdout_is_said_in_one_line() -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("this system has no /dev/full")
    program = "from zoo.cli import main; main(['targets'])"
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", program],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=Path(__file__).parents[1],
        )
    fact = "zoo: cannot write what is printed: No space left on device; make room\n"
    assert (ended.returncode, ended.stderr.startswith(fact), "Traceback" in ended.stderr) == (2, True, False)
