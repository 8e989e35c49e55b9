"""What can be said of the packages without building them; `tests/packaging/check.py` builds and uses them."""

from __future__ import annotations

import os
import plistlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import mertd
from mertd.service.manager import TEMPLATES

ROOT = Path(__file__).parents[1]


def test_there_is_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "mertd/__init__.py"
    latest = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert latest == mertd.__version__, "the changelog begins with the latest version"


def test_templates_are_part_of_the_package() -> None:
    assert TEMPLATES.is_relative_to(Path(mertd.__file__).parent)
    assert {path.name for path in TEMPLATES.iterdir()} == {"agent.plist", "app.plist", "mertd.service"}
    for path in TEMPLATES.glob("*.plist"):
        assert plistlib.loads(path.read_bytes())


def test_a_shell_completes() -> None:
    """As bash asks the installed program."""
    program = Path(sys.executable).with_name("mertd")
    environment = {**os.environ, "_MERTD_COMPLETE": "complete_bash", "COMP_WORDS": "mertd service re", "COMP_CWORD": "2"}
    done = subprocess.run([program], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["restart", "reload"]
