"""What pyproject.toml cannot say: the wheel carries the target profiles, which in a checkout stand in configs/."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithTargets(build_py):
    """Copies configs/targets/ to where zoo.targets.reading finds it without a checkout."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            folder = Path(self.build_lib, "zoo", "targets", "profiles")
            folder.mkdir(parents=True, exist_ok=True)
            for profile in Path("configs", "targets").glob("*.yaml"):
                shutil.copy(profile, folder)


setup(cmdclass={"build_py": BuildWithTargets})
