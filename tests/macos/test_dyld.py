"""The copied interpreter finds its library: each kind of Python that people have, and after Homebrew has upgraded it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from macos.dyld import candidates, framework_part, missing, needed, program
from mertd.service.launchd import LaunchdManager
from mertd.service.program import Installation, lasting

SYSTEM = "/usr/lib/libSystem.B.dylib"


@dataclass(frozen=True)
class Kind:
    """A kind of Python: where its program and its library lie below its prefix, and under what name the program needs it."""

    name: str
    prefix: str
    program: str
    library: str
    install_name: str
    rpaths: tuple[str, ...] = ()
    framework: bool = False


VERSIONS = "Frameworks/Python.framework/Versions/3.12"
CELLAR = "opt/homebrew/Cellar/python@3.12/3.12.4"
APP = "Resources/Python.app/Contents/MacOS/Python"
KINDS = [
    Kind("static, of uv", "uv/cpython-3.12", "bin/python3.12", "lib/libpython3.12.dylib", ""),
    Kind(
        "shared, of uv",
        "uv/cpython-3.12",
        "bin/python3.12",
        "lib/libpython3.12.dylib",
        "@executable_path/../lib/libpython3.12.dylib",
    ),
    Kind(
        "shared, absolute, moved",
        "uv/cpython-3.11",
        "bin/python3.11",
        "lib/libpython3.11.dylib",
        "/install/lib/libpython3.11.dylib",
    ),
    Kind(
        "shared, rpath",
        "conda",
        "bin/python3.12",
        "lib/libpython3.12.dylib",
        "@rpath/libpython3.12.dylib",
        ("@loader_path/../lib",),
    ),
    Kind("framework, of python.org", f"Library/{VERSIONS}", APP, "Python", "ROOT/PREFIX/Python", framework=True),
    Kind("framework, of Homebrew", f"{CELLAR}/{VERSIONS}", APP, "Python", "ROOT/PREFIX/Python", framework=True),
    Kind("framework, relative", f"own/{VERSIONS}", APP, "Python", "@loader_path/../../../../Python", framework=True),
    Kind(
        "framework, relative from above",
        f"own/{VERSIONS}",
        APP,
        "Python",
        "@executable_path/../../../../../../../Python.framework/Versions/3.12/Python",
        framework=True,
    ),
]


def built(root: Path, kind: Kind) -> Installation:
    """Make a Python of this kind below `root`, and return its installation as mertd sees it."""
    prefix = root / kind.prefix
    binary, library = prefix / kind.program, prefix / kind.library
    name = kind.install_name.replace("ROOT", str(root)).replace("PREFIX", kind.prefix)
    for path, content in ((binary, program((SYSTEM, *([name] if name else [])), kind.rpaths)), (library, program((SYSTEM,)))):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if "Cellar" in kind.prefix:
        (root / "opt/homebrew/opt").mkdir(parents=True, exist_ok=True)
        (root / "opt/homebrew/opt/python@3.12").symlink_to(root / CELLAR)
    home = lasting(prefix)
    return Installation(
        python=binary,
        binary=binary,
        home=home,
        packages=(root / "site-packages",),
        libraries=(home / "lib", home),
        frameworks=home.parents[2] if kind.framework else None,
    )


def copied(root: Path, installation: Installation) -> LaunchdManager:
    files = LaunchdManager(root / "home", 501, installation)
    files.executable.parent.mkdir(parents=True)
    shutil.copyfile(installation.binary, files.executable)
    return files


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_copy_finds_its_library(tmp_path: Path, kind: Kind) -> None:
    installation = built(tmp_path, kind)
    assert not missing(installation.binary, {}) or "moved" in kind.name, "it runs where it is"
    files = copied(tmp_path, installation)
    assert missing(files.executable, files.environment) == []


def test_homebrew_may_upgrade_python(tmp_path: Path) -> None:
    """The old version is removed, and `opt` names the new one (python-poetry/install.python-poetry.org, 34)."""
    (kind,) = (kind for kind in KINDS if "Homebrew" in kind.name)
    files = copied(tmp_path, built(tmp_path, kind))
    assert "Cellar" not in "".join(files.environment.values())
    old = tmp_path / CELLAR
    old.rename(old.with_name("3.12.5"))
    link = tmp_path / "opt/homebrew/opt/python@3.12"
    link.unlink()
    link.symlink_to(old.with_name("3.12.5"))
    assert missing(files.executable, {}) != [], "without the fallbacks dyld would abort it every ten seconds"
    only_libraries = {name: value for name, value in files.environment.items() if name == "DYLD_FALLBACK_FRAMEWORK_PATH"}
    assert missing(files.executable, only_libraries) == [], "the framework's fallback alone is enough"
    assert missing(files.executable, files.environment) == []
    assert Path(files.environment["PYTHONHOME"]).is_dir(), "and its standard library is there"


def test_what_dyld_tries_and_in_which_order(tmp_path: Path) -> None:
    name = "/opt/Python.framework/Versions/3.12/Python"
    variables = {"DYLD_FALLBACK_FRAMEWORK_PATH": "/f", "DYLD_FALLBACK_LIBRARY_PATH": "/l:/m"}
    assert [str(path) for path in candidates(name, tmp_path / "x", [], variables)] == [
        name,
        "/f/Python.framework/Versions/3.12/Python",
        "/l/Python",
        "/m/Python",
    ]
    assert [str(path) for path in candidates("@rpath/a.dylib", Path("/b/c"), ["@loader_path/../d", "/e"], {})] == [
        "/b/../d/a.dylib",
        "/e/a.dylib",
        "/usr/local/lib/a.dylib",
        "/usr/lib/a.dylib",
    ]
    assert framework_part("/x/Python3.framework/Versions/3.9/Python3") == "Python3.framework/Versions/3.9/Python3"
    assert framework_part("/x/Python.framework/Versions/3.9/lib/a.dylib") == ""


def test_macholib_reads_what_was_built(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(program(("/a/b", SYSTEM), ("@loader_path/c",)))
    assert needed(path) == (["/a/b", SYSTEM], ["@loader_path/c"])
