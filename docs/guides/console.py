"""Runs the commands of two guides and writes what they print into them: ``python docs/guides/console.py``."""

import contextlib
import os
import re
import shlex
import tempfile
from pathlib import Path

from click.testing import CliRunner

from zoo.cli import main

GUIDES = tuple(Path(__file__).parent / name for name in ("lint.md", "data.md"))
PYTHON = re.compile(r"^```python\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^```console\n\$ zoo (.*?)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def with_output(guide: str, folder: Path) -> str:
    """The guide with what its commands print now; its Python runs in ``folder`` first, which is where they run."""
    with contextlib.chdir(folder):
        for code in PYTHON.findall(guide):
            with contextlib.redirect_stdout(None):
                exec(code, {})
        return CONSOLE.sub(lambda found: f"```console\n$ zoo {found[1]}\n{_printed(found[1])}```\n", guide)


def _printed(arguments: str) -> str:
    done = CliRunner().invoke(main, shlex.split(arguments), catch_exceptions=False)
    return done.output


if __name__ == "__main__":
    os.environ.pop("ZOO_INDEX", None)
    for guide in GUIDES:
        with tempfile.TemporaryDirectory() as folder:
            guide.write_text(with_output(guide.read_text(encoding="utf-8"), Path(folder)), encoding="utf-8")
        print(guide)
