"""Where dyld looks for a library, after dyld's own source (DyldProcessConfig.cpp, PathOverrides::forEachPathVariant), for
programs that may use its variables, as one signed ad hoc may; and Mach-O files for it to read, as small as they can be.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from macholib.mach_o import LC_LOAD_DYLIB, LC_RPATH
from macholib.MachO import MachO

MH_MAGIC_64 = 0xFEEDFACF
CPU_ARM64 = 0x0100000C
MH_EXECUTE = 2


def program(libraries: tuple[str, ...], rpaths: tuple[str, ...] = ()) -> bytes:
    """Return a program for Apple silicon that needs these libraries."""
    commands = [_command(LC_LOAD_DYLIB, struct.pack("<IIII", 24, 2, 0x10000, 0x10000), name) for name in libraries]
    commands += [_command(LC_RPATH, struct.pack("<I", 12), path) for path in rpaths]
    body = b"".join(commands)
    return struct.pack("<IIIIIIII", MH_MAGIC_64, CPU_ARM64, 0, MH_EXECUTE, len(commands), len(body), 0x85, 0) + body


def _command(kind: int, fields: bytes, text: str) -> bytes:
    data = fields + text.encode() + b"\0"
    data += bytes(-len(data) % 8)
    return struct.pack("<II", kind, 8 + len(data)) + data


def needed(path: Path) -> tuple[list[str], list[str]]:
    """Return the install names that a program needs, and its rpaths, as macholib reads them."""
    libraries: list[str] = []
    rpaths: list[str] = []
    for header in MachO(str(path)).headers:
        for command, _, data in header.commands:
            text = data.rstrip(b"\0").decode() if isinstance(data, bytes) else ""
            if command.cmd == LC_LOAD_DYLIB:
                libraries.append(text)
            elif command.cmd == LC_RPATH:
                rpaths.append(text)
    return libraries, rpaths


def framework_part(path: str) -> str:
    """Return `Python.framework/Versions/3.12/Python` of a path into a framework; empty for others."""
    parts = path.split("/")
    for at in range(len(parts) - 1, -1, -1):
        if parts[at].endswith(".framework") and parts[-1].removesuffix("_debug") == parts[at].removesuffix(".framework"):
            return "/".join(parts[at:])
    return ""


def candidates(name: str, executable: Path, rpaths: list[str], environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield the paths that dyld tries for an install name, in its order."""
    here = str(executable.parent)
    framework, leaf = framework_part(name), name.rpartition("/")[2]
    for directory in _listed(environment, "DYLD_FRAMEWORK_PATH") if framework else ():
        yield Path(directory, framework)
    for directory in _listed(environment, "DYLD_LIBRARY_PATH"):
        yield Path(directory, leaf)
    if name.startswith("@rpath/"):
        for rpath in rpaths:
            yield Path(_expanded(rpath, here) + name.removeprefix("@rpath"))
    else:
        yield Path(_expanded(name, here))
    if framework:
        fallback = _listed(environment, "DYLD_FALLBACK_FRAMEWORK_PATH") or ["/Library/Frameworks", "/System/Library/Frameworks"]
        for directory in fallback:
            yield Path(directory, framework)
    for directory in _listed(environment, "DYLD_FALLBACK_LIBRARY_PATH") or ["/usr/local/lib", "/usr/lib"]:
        yield Path(directory, leaf)


def _listed(environment: Mapping[str, str], name: str) -> list[str]:
    return environment[name].split(":") if environment.get(name) else []


def _expanded(path: str, here: str) -> str:
    for word in ("@executable_path", "@loader_path"):  # the same for what the program itself needs
        if path.startswith(word):
            return here + path.removeprefix(word)
    return path


def missing(executable: Path, environment: Mapping[str, str]) -> list[str]:
    """Return the libraries of a program that dyld would not find, for which it aborts the program."""
    libraries, rpaths = needed(executable)
    return [
        name
        for name in libraries
        if not name.startswith("/usr/lib/")
        and not any(path.is_file() for path in candidates(name, executable, rpaths, environment))
    ]
