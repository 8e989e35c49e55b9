"""How a service manager is to start mertd: with which Python, and from where. Facts about this very process."""

from __future__ import annotations

import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import mertd


@dataclass(frozen=True)
class Program:
    """One installation of mertd.

    python    the interpreter as it was called, in its virtual environment if it has one: enough to start mertd
    binary    the program file behind it; on a Mac the one that shows up as a process, not a stub that starts another
    home      where its standard library is, for PYTHONHOME, if `binary` is copied elsewhere
    packages  where mertd and what it imports are, for PYTHONPATH in that case
    library   the folder of its shared library, for the case that it looks for it beside itself
    """

    python: Path
    binary: Path
    home: Path
    packages: tuple[Path, ...]
    library: Path


def current() -> Program:
    """The one that runs now."""
    # A framework build's bin/python3 only starts the program inside Python.app, which is what the system then sees.
    framework = Path(sys.base_prefix) / "Resources" / "Python.app" / "Contents" / "MacOS" / "Python"
    base = Path(getattr(sys, "_base_executable", sys.executable))
    installed = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    return Program(
        python=Path(sys.executable),
        binary=framework if framework.is_file() else base.resolve(),
        home=Path(sys.base_prefix),
        packages=tuple(dict.fromkeys([Path(mertd.__file__).parent.parent, *installed])),
        library=Path(sysconfig.get_config_var("LIBDIR") or Path(sys.base_prefix) / "lib"),
    )
