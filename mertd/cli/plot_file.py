"""The option --plot of several commands."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mertd.errors import UsageError

SUFFIXES = (".png", ".svg", ".pdf")
"""Endings of pictures that can be drawn."""


def check_plot(path: Path) -> None:
    """Raise `UsageError` if a picture cannot be drawn there: before the work, which takes long, rather than after it."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("--plot: matplotlib is not installed; pip install 'mertd[bench]' installs it")
    require_directory("--plot", path)
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--plot {path}: unknown kind of picture; use {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


def require_directory(option: str, path: Path) -> None:
    """Raise `UsageError` if a file cannot be made there because there is no such directory."""
    if not path.parent.is_dir():
        raise UsageError(f"{option} {path}: directory {path.parent} does not exist; create it first")
