"""How a service manager can start this installation of mertd: with which Python, and from where."""

from __future__ import annotations

import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import mertd


@dataclass(frozen=True)
class Installation:
    """One installation of mertd.

    python    the interpreter as it was called, in its virtual environment if it has one: enough to start mertd
    binary    the program file behind it; in a framework build on macOS, the program that runs, not the launcher in front of it
    home      prefix of its standard library, for PYTHONHOME of a copy of `binary` in another directory
    packages  directories of mertd and its dependencies, for PYTHONPATH of such a copy
    library   directory of its shared library, for a copy that looks for it beside itself
    """

    python: Path
    binary: Path
    home: Path
    packages: tuple[Path, ...]
    library: Path


def current_installation() -> Installation:
    """Return the installation that is running now."""
    # In a framework build, bin/python3 only starts the program inside Python.app, which is the one that macOS asks consent for.
    framework = Path(sys.base_prefix) / "Resources" / "Python.app" / "Contents" / "MacOS" / "Python"
    base = Path(getattr(sys, "_base_executable", sys.executable))
    installed = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    return Installation(
        python=Path(sys.executable),
        binary=framework if framework.is_file() else base.resolve(),
        home=Path(sys.base_prefix),
        packages=tuple(dict.fromkeys([Path(mertd.__file__).parent.parent, *installed])),
        library=Path(sysconfig.get_config_var("LIBDIR") or Path(sys.base_prefix) / "lib"),
    )
