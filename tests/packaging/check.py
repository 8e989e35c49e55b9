"""Build the wheel and the sdist, check their contents, and use the wheel in an empty environment outside the checkout.

    uv run python tests/packaging/check.py

It needs uv and takes half a minute. There are no weights, no configuration and an empty home directory, as after a first
installation.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMANDS = (
    ("--version",),
    ("--help",),
    ("man",),
    ("config", "check"),
    ("doctor",),
    ("service", "install", "--dry-run", "--platform", "launchd"),
    ("service", "install", "--dry-run", "--platform", "systemd"),
    ("demo", "--count", "2"),
)
PROMISED = ("embedding", "launchctl bootstrap", "systemctl --user restart", "UNTRAINED", "there are no weights at")
"""Words that the output of these commands must contain, taken together."""

BESIDES = {"LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "pyproject.toml"}
"""Files at the top of an sdist, besides its directories."""

LIMIT_S = 300


def run(*command: object, **options: object) -> str:
    """Return a command's output and errors. A failure ends the check."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, check=False, **options)  # type: ignore[call-overload]
    if done.returncode not in (0, 3 if "doctor" in words else 0):  # it finds that there are no weights, and says so with 3
        raise SystemExit(f"{' '.join(words)} failed with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    return str(done.stdout + done.stderr)


def compare(name: str, found: set[str], expected: set[str]) -> None:
    """Check that an archive holds exactly these files."""
    if stray := sorted(found - expected):
        raise SystemExit(f"{name} holds unexpected files: {stray}")
    if missing := sorted(expected - found):
        raise SystemExit(f"{name} lacks {missing}")
    print(f"{name}: {len(found)} files, as expected")


def check_contents(wheel: Path, sdist: Path) -> None:
    """Compare both with the files of the repository, data files and templates included."""
    tracked = set(run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).split())
    package = {path for path in tracked if path.startswith("mertd/")}
    templates = {path for path in tracked if path.startswith(("launchd/", "systemd/"))}
    packed = {f"mertd/service/files/{path}" for path in templates if not path.endswith((".md", ".sh"))}
    others = {path for path in tracked if path.startswith(("tests/", "examples/", "docs/"))} | templates
    about = f"{wheel.name.rsplit('-', 3)[0]}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        names = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
        compare(wheel.name, set(archive.namelist()), package | packed | {f"{about}/{name}" for name in names})
    with tarfile.open(sdist) as archive:
        inside = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
        compare(sdist.name, inside - {"PKG-INFO", ".gitignore"}, package | others | BESIDES)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="mertd-packaging-") as name:
        folder = Path(name)
        run("uv", "build", "--out-dir", folder / "dist", ROOT)
        (wheel,), (sdist,) = folder.glob("dist/*.whl"), folder.glob("dist/*.tar.gz")
        check_contents(wheel, sdist)
        run("uv", "venv", "--python", sys.executable, folder / "venv")
        run("uv", "pip", "install", "--python", folder / "venv" / "bin" / "python", wheel)
        (folder / "home").mkdir()
        environment = {"HOME": str(folder / "home"), "PATH": os.defpath, "COLUMNS": "120"}
        output = ""
        for command in COMMANDS:
            text = run(folder / "venv" / "bin" / "mertd", *command, cwd=folder, env=environment)
            print(f"\nmertd {' '.join(command)}\n{text[-600:].rstrip()}")
            output += text
        if missing := [words for words in PROMISED if words not in output]:
            raise SystemExit(f"the output does not contain {missing}")
        cache = folder / "home" / ".cache" / "mertd"  # may be deleted at any time
        left = [str(path) for path in (folder / "home").rglob("*") if path.is_file() and cache not in path.parents]
        if left:
            raise SystemExit(f"these commands left files behind: {left}")
    print("\nthe packages are complete")


if __name__ == "__main__":
    main()
