"""Build the wheel and the sdist, look into both, and use the wheel in an empty environment, far from the checkout.

    uv run python tests/packaging/check.py

It needs uv and takes half a minute. No weights, no configuration, no home: what works here works for whoever has just installed
it.
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
"""What they are to say between them."""

BESIDES = {"LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "pyproject.toml"}
"""What an sdist holds of the repository, besides the package, tests, examples and docs."""

LIMIT_S = 300


def run(*command: object, **options: object) -> str:
    """A command's output, errors too; ends the check if it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, check=False, **options)  # type: ignore[call-overload]
    if done.returncode not in (0, 3 if "doctor" in words else 0):  # it finds that there are no weights, and says so with 3
        raise SystemExit(f"{' '.join(words)} failed with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    return str(done.stdout + done.stderr)


def compare(name: str, found: set[str], wanted: set[str]) -> None:
    """Neither more nor less."""
    if stray := sorted(found - wanted):
        raise SystemExit(f"{name} holds what it should not: {stray}")
    if missing := sorted(wanted - found):
        raise SystemExit(f"{name} does not hold {missing}")
    print(f"{name}: {len(found)} files, neither more nor less")


def check_contents(wheel: Path, sdist: Path) -> None:
    """Against what is in the repository: data files and templates too, nothing that lies about."""
    tracked = set(run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).split())
    package = {path for path in tracked if path.startswith("mertd/")}
    templates = {path for path in tracked if path.startswith(("launchd/", "systemd/"))}
    packed = {f"mertd/service/files/{path}" for path in templates if not path.endswith(".md")}
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
        said = ""
        for command in COMMANDS:
            text = run(folder / "venv" / "bin" / "mertd", *command, cwd=folder, env=environment)
            print(f"\nmertd {' '.join(command)}\n{text[-600:].rstrip()}")
            said += text
        if missing := [words for words in PROMISED if words not in said]:
            raise SystemExit(f"nothing was said of {missing}")
        left = [str(path) for path in (folder / "home").rglob("*") if path.is_file()]
        if left:
            raise SystemExit(f"these commands have left {left}")
    print("\nthe packages are sound")


if __name__ == "__main__":
    main()
