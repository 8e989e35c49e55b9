"""Run the commands that README.md and the other pages show, as a reader would: `python .ci/readme.py [PAGE…]`.

A command stands in a fenced block marked `sh`, and each block runs in a shell of its own, in the top folder of the repository.
The blocks of one page share a folder for configuration and data, so that a block can use the keys that an earlier one made, and
nothing of the user's is touched. A block that cannot run here says why with a word behind `sh`, one of `NOT_HERE`.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

NOT_HERE = {
    "mac": "needs a Mac",
    "sound": "needs a sound card or a microphone",
    "hub": "downloads weights from the Hugging Face hub",
    "far": "needs another machine, the internet or a GPU",
    "service": "installs a service for this user; .ci/service.sh runs these commands",
    "long": "takes minutes; a step of .ci/run, or of its own, runs it",
}
"""Words behind `sh` that keep a block from running, and the reason."""

LIMIT_S = 300
"""Seconds that one block may take."""

ROOT = Path(__file__).parents[1]
TOP = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "launchd/README.md", "systemd/README.md")
PAGES = [*(ROOT / name for name in TOP), *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the word behind `sh` (usually empty) and the text of each shell block of a page."""
    found = re.findall(r"^```sh *(.*)\n((?:.*\n)*?)```$", page.read_text(encoding="utf-8"), re.MULTILINE)
    for word, text in found:
        if word and word not in NOT_HERE:
            raise SystemExit(f"{page.name}: unknown word {word!r} behind `sh`; choose one of {', '.join(NOT_HERE)}:\n{text}")
    if found and all(word for word, _ in found):
        raise SystemExit(f"{page.name} shows commands, but none of them is run")
    return found


@contextlib.contextmanager
def environment() -> Iterator[dict[str, str]]:
    """Yield variables under which mertd keeps configuration and data in an empty folder; pip and uv find theirs as before."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    with tempfile.TemporaryDirectory(prefix="mertd-page-") as folder:
        variables = {**os.environ, "XDG_CONFIG_HOME": f"{folder}/config", "XDG_DATA_HOME": f"{folder}/data"}
        for name, file in (("PIP_CONFIG_FILE", config / "pip" / "pip.conf"), ("UV_CONFIG_FILE", config / "uv" / "uv.toml")):
            if file.is_file():
                variables.setdefault(name, str(file))
        yield variables


def run(block: str, variables: dict[str, str]) -> float:
    """Run one block and return the seconds that it took; what it leaves running is ended."""
    began = time.monotonic()
    command = ["bash", "-euo", "pipefail", "-c", block]
    shell = subprocess.Popen(command, cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        code = shell.wait(LIMIT_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGTERM)
    if code:
        raise SystemExit(f"exit code {code}")
    return time.monotonic() - began


def main() -> None:
    pages = [Path(name).resolve() for name in sys.argv[1:]] or PAGES
    found = {page: blocks(page) for page in pages}
    summary = []
    for page, all_blocks in found.items():
        with environment() as variables:
            for word, text in all_blocks:
                name, first = str(page.relative_to(ROOT)), text.strip().splitlines()[0][:60]
                print(f"\n== {name}\n{text.rstrip()}\n" + "-" * 40, flush=True)
                took = f"not run: {NOT_HERE[word]}" if word else f"{run(text, variables):.1f} s"
                print(f"{'-' * 40} {took}", flush=True)
                summary.append(f"{name:24} {first:60}  {took}")
    print("\n" + "\n".join(summary))


if __name__ == "__main__":
    main()
