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

    python      the interpreter as it was called, in its virtual environment if it has one: enough to start mertd
    binary      the program file behind it; in a framework build on macOS, the program that runs, not the launcher before it
    home        prefix of its standard library, for PYTHONHOME of a copy of `binary` in another directory
    packages    directories of mertd and its dependencies, for PYTHONPATH of such a copy
    libraries   directories of its shared library, for a copy that looks for it beside itself
    frameworks  directory of its Python.framework, for a copy that looks for it beside itself; None if it is no framework
    """

    python: Path
    binary: Path
    home: Path
    packages: tuple[Path, ...]
    libraries: tuple[Path, ...]
    frameworks: Path | None = None


def current_installation() -> Installation:
    """Return the installation that is running now."""
    prefix = lasting(Path(sys.base_prefix))
    # In a framework build, bin/python3 only starts the program inside Python.app, which is the one that macOS asks consent for.
    framework = prefix / "Resources" / "Python.app" / "Contents" / "MacOS" / "Python"
    base = Path(getattr(sys, "_base_executable", sys.executable))
    installed = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    frameworks = sysconfig.get_config_var("PYTHONFRAMEWORKPREFIX")
    library = lasting(Path(sysconfig.get_config_var("LIBDIR") or prefix / "lib"))
    return Installation(
        python=Path(sys.executable),
        binary=framework if framework.is_file() else base.resolve(),
        home=prefix,
        packages=tuple(dict.fromkeys([Path(mertd.__file__).parent.parent, *installed])),
        libraries=tuple(dict.fromkeys([library, prefix / "lib", prefix])),  # the last one holds a framework's library
        frameworks=lasting(Path(frameworks)) if frameworks else None,
    )


def lasting(path: Path) -> Path:
    """Return Homebrew's name for a path that outlives upgrades, `…/opt/NAME/…` for `…/Cellar/NAME/VERSION/…`; others as is."""
    parts = path.parts
    if "Cellar" not in parts[:-2]:
        return path
    at = parts.index("Cellar")
    linked = Path(*parts[:at], "opt", parts[at + 1], *parts[at + 3 :])
    return linked if linked.exists() else path
