"""launchd/check.sh, which a Mac's owner runs once: here with mertd as on a Mac, and stand-ins for the programs of macOS."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.stand_ins import StandIns

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "launchd" / "check.sh"


def environment(tmp_path: Path, mac: StandIns) -> dict[str, str]:
    (tmp_path / "home").mkdir(mode=0o700)
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "MERTD", "PULSE", "PYTHON"))}
    return {
        **plain,
        "HOME": str(tmp_path / "home"),
        "PATH": f"{mac.bin}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "tests" / "as_mac"),
        "PYTHONPYCACHEPREFIX": str(tmp_path / "cache"),
        "AS_ON_A_MAC": "1",
        "MERTD": str(Path(sys.executable).with_name("mertd")),
    }


def check(variables: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(SCRIPT), *words]
    return subprocess.run(
        command, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a name short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="mertd-") as folder:
        yield Path(folder)


@pytest.mark.slow
def test_the_service_is_installed_looked_at_and_removed(short: Path) -> None:
    mac = StandIns(short)
    variables = environment(short, mac)
    report = short / "report.txt"
    try:
        done = check(variables, "--yes", "--no-microphone", "--out", str(report), "machine", "service", "microphone", "log")
        text = report.read_text()
        assert done.returncode == 0, done.stdout + done.stderr
        assert "nothing that had to work has failed" in text
        assert "== service" in text
        assert "== microphone" not in text
        assert "runs, process" in text
        assert "uninstalled; configuration and weights stay" in text
        assert str(short / "home") not in text, "the home folder is not named"
        for program in ("codesign", "launchctl"):
            assert [call for call in mac.calls if call[0] == program]
        assert not [path for path in (short / "home").rglob("*") if path.is_file()], "all of it is undone"
    finally:
        mac.end()


@pytest.mark.slow
def test_what_fails_is_told_and_undone(short: Path) -> None:
    mac = StandIns(short)
    variables = environment(short, mac)
    report = short / "report.txt"
    mac.fail("bootstrap", *[125] * 9)
    try:
        done = check(variables, "--yes", "--out", str(report), "service")
        text = report.read_text()
        assert done.returncode != 0
        assert "log in at the Mac itself" in text
        assert "failed:" in text
        assert "nothing of it can be heard" in text, "and nobody waits for it"
        assert not [path for path in (short / "home").rglob("*") if path.is_file()]
    finally:
        mac.end()


MERTD = """#!/bin/sh
echo "mertd $*" >>"$CALLS"
[ "$2" != compare ] || until [ -s "$(echo "$HOME"/mertd-check-*/power.log)" ]; do sleep 0.01; done
echo "layer    cosine  max error"
"""

SUDO = """#!/bin/sh
shift
case $1 in
  */powermetrics)
    printf 'CPU Power: 100 mW\\nANE Power: 30 mW\\nCPU Power: 300 mW\\nCombined Power (CPU + GPU + ANE): 430 mW\\n'
    exec sleep 60
    ;;
esac
"$@" # a small Linux has no kill(1), but its shell has
"""


def test_both_packages_are_compared_on_both_processors_with_their_power(short: Path) -> None:
    """Core ML runs only on a Mac, so mertd itself and powermetrics are stand-ins here; their options are checked."""
    for name, text in (("mertd", MERTD), ("sudo", SUDO)):
        (short / name).write_text(text)
        (short / name).chmod(0o755)
    calls, report = short / "calls", short / "report.txt"
    variables = {**os.environ, "HOME": str(short), "CALLS": str(calls), "MERTD": str(short / "mertd")}
    variables["PATH"] = f"{short}:{variables['PATH']}"
    done = check(variables, "--yes", "--out", str(report), "processors")
    assert done.returncode == 0, done.stdout + done.stderr
    made = [call.split() for call in calls.read_text().splitlines()]
    compared = [call for call in made if call[2] == "compare"]
    packages = [(Path(call[3]).stem, call[call.index("--units") + 1]) for call in compared[1:]]
    assert packages == [(name, units) for name in ("gpu", "neural-engine") for units in ("cpu_and_gpu", "cpu_and_ne")]
    assert [call[call.index("--processor") + 1] for call in made if call[2] == "export-coreml"] == ["gpu", "neural-engine"]
    assert report.read_text().count("  CPU: 200 of 2 samples") == 5
    for call in made:  # as the command line understands them
        path = [str(Path(sys.executable).with_name("mertd")), call[1], call[2], "--help"]
        text = subprocess.run(path, capture_output=True, text=True, check=True).stdout
        assert all(word in text for word in call if word.startswith("--"))


def test_it_says_what_it_does_not_know() -> None:
    for words, said in ((["--no"], "unknown option --no"), (["everything"], "unknown part everything")):
        done = check(dict(os.environ), *words)
        assert done.returncode == 2
        assert said in done.stderr
    assert "--no-microphone" in check(dict(os.environ), "--help").stdout
