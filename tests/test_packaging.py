"""What can be said of the packages without building them; `tests/packaging/check.py` builds and uses them."""

from __future__ import annotations

import os
import plistlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mertd
from mertd.service.launchd import LaunchdManager
from mertd.service.program import current_installation
from mertd.service.templates import read_template

ROOT = Path(__file__).parents[1]


def test_there_is_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "mertd/__init__.py"
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = [heading for heading in headings if heading != "Unreleased"]
    assert released[0] == mertd.__version__, "the changelog begins with the latest version"
    assert "Unreleased" not in headings[1:], "only changes after the latest version are unreleased"


FORCED = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
TEMPLATES = {str(path.relative_to(ROOT)) for folder in ("launchd", "systemd") for path in (ROOT / folder).iterdir()} - {
    "launchd/README.md",
    "launchd/check.sh",
    "systemd/README.md",
}


def test_templates_are_part_of_the_package() -> None:
    """In a checkout they are found at its top; a wheel has all of them, and `tests/packaging/check.py` uses them from there."""
    assert {"launchd/agent.plist", "launchd/app.plist", "systemd/mertd.service"} == TEMPLATES
    assert {path: f"mertd/service/files/{path}" for path in TEMPLATES} == FORCED
    for path in TEMPLATES:
        assert read_template(*path.split("/")) == (ROOT / path).read_bytes()
        assert not path.endswith(".plist") or plistlib.loads((ROOT / path).read_bytes())
    with pytest.raises(FileNotFoundError):
        read_template("launchd", "no.plist")


def test_a_shell_completes() -> None:
    """As bash asks the installed program."""
    program = Path(sys.executable).with_name("mertd")
    environment = {**os.environ, "_MERTD_COMPLETE": "complete_bash", "COMP_WORDS": "mertd service re", "COMP_CWORD": "2"}
    done = subprocess.run([program], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["restart", "reload"]


def explained(page: str) -> set[str]:
    """The names in the first column of the page's tables."""
    rows = re.findall(r"^\| (`[^|]+) \|", (ROOT / page).read_text(), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_the_launchd_page_explains_every_key() -> None:
    service = LaunchdManager(Path("/Users/x"), 501, current_installation())
    keys = set()
    for facts in (service.agent(()), service.app_info()):
        keys |= facts.keys() | {key for value in facts.values() if isinstance(value, dict) for key in value}
    assert explained("launchd/README.md") == keys


def test_the_systemd_page_explains_every_setting() -> None:
    settings = re.findall(r"^(\w+)=", (ROOT / "systemd/mertd.service").read_text(), re.MULTILINE)
    assert explained("systemd/README.md") == set(settings)
