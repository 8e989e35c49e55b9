"""How many threads compute on the CPU: what the user says, or what this process may use of the machine.

Rules of this file: it loads neither numpy nor a backend, because it is to be used before they are. Facts about the machine
come from files, under a root that a test can replace.

A machine shows all of its cores to a container that may use two of them. A thread for each then means that most of them wait,
and that the system stops all of them as soon as their common share of time is used up.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mertd.mounts import mounts

MAX_THREADS = 1024
"""Largest number of threads that can be asked for."""

OPENMP_VARIABLE = "OMP_NUM_THREADS"
"""Environment variable by which a user limits the threads of any program that computes."""

BLAS_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Environment variables that numpy's libraries read when they are loaded; the last one is Accelerate's."""

ROOT = Path("/")
"""Where the system's files about processes and processors lie."""

_NO_QUOTA = ("max", "-1")
"""What stands in place of a quota where there is none: in version 2 of control groups, and in version 1."""


@dataclass(frozen=True)
class ThreadLimit:
    """Number of threads, and why it is this one."""

    count: int
    reason: str


class _Process:
    """What holds in this process: libraries keep one pool of threads for all of their users."""

    limit: ThreadLimit | None = None
    written: frozenset[str] = frozenset()  # environment variables that do not come from the user


def choose(asked: int | None, environment: Mapping[str, str] | None = None, root: Path = ROOT) -> ThreadLimit:
    """Return the number of threads: `asked`; or else that of OMP_NUM_THREADS; or else the least of the physical cores that this
    process may run on and the processors that its control groups grant it, rounded down.
    """
    if asked is not None:
        return ThreadLimit(asked, "as asked")
    environment = os.environ if environment is None else environment
    if (variable := _openmp(environment.get(OPENMP_VARIABLE, ""))) is not None:
        return ThreadLimit(variable, OPENMP_VARIABLE)
    cores, quota = _cores(root), cpu_quota(root)
    if quota is not None and quota < cores:
        return ThreadLimit(max(1, int(quota)), f"CPU quota of {quota:g}")
    return ThreadLimit(cores, "cores that may be used")


def limit(asked: int | None = None) -> ThreadLimit:
    """Let backends in this process use as many threads as `choose` says, and libraries that are loaded already no more.

    Raises `FileNotFoundError` if the working directory was deleted.
    """
    Path.cwd()  # raises if the directory was deleted, which threadpoolctl would print as a traceback
    _Process.limit = choose(asked)
    name = BLAS_VARIABLES[0]
    if name in os.environ and (name not in _Process.written or int(os.environ[name]) <= _Process.limit.count):
        return _Process.limit  # they were loaded with it
    # This looks at every loaded library, with the loader's lock held, and so must not meet an import in another thread.
    from threadpoolctl import threadpool_info, threadpool_limits

    pools = {pool["prefix"]: min(pool["num_threads"], _Process.limit.count) for pool in threadpool_info()}
    threadpool_limits(limits=pools)
    return _Process.limit


def current() -> ThreadLimit:
    """Return what holds in this process."""
    return _Process.limit or choose(None)


def limit_blas(count: int) -> None:
    """Let libraries of linear algebra that are loaded later, and those of child processes, use `count` threads.

    What the user has set in the environment stays.
    """
    for name in BLAS_VARIABLES:
        if name not in os.environ or name in _Process.written:
            os.environ[name] = str(count)
            _Process.written |= {name}


def asked_on(arguments: list[str]) -> int | None:
    """Return the value of `--threads` on a command line that has not been parsed; None if there is none that is valid.

    numpy is loaded with the commands, so its number of threads must be known before they are.
    """
    text = ""
    for at, argument in enumerate(arguments):
        if argument == "--threads" and at + 1 < len(arguments):
            text = arguments[at + 1]
        elif argument.startswith("--threads="):
            text = argument.removeprefix("--threads=")
    return _number(text)


def cpu_quota(root: Path = ROOT) -> float | None:
    """Return the processors' time per time that this process's control groups grant it, the least of all levels; None if
    there is no limit, or no such thing.
    """
    quotas = [quota for folder, version in _control_groups(root) if (quota := _quota(folder, version)) is not None]
    return min(quotas, default=None)


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if re.fullmatch("[0-9]{1,4}", text) and 1 <= int(text) <= MAX_THREADS else None


def _openmp(text: str) -> int | None:
    """The variable may hold a list, of which the first number is for the outermost level. OpenMP ignores what is invalid."""
    return _number(text.partition(",")[0])


def _cores(root: Path) -> int:
    """Return the number of physical cores that this process may run on: a second thread on a core finds its units busy."""
    try:
        processors: set[int] = set(os.sched_getaffinity(0))  # type: ignore[attr-defined, unused-ignore]
    except (AttributeError, OSError):  # macOS
        return os.cpu_count() or 1
    cores = {
        _text(root / f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list") or number for number in processors
    }
    return max(1, len(cores))


def _control_groups(root: Path) -> Iterator[tuple[Path, int]]:
    """Yield the folders of all control groups that limit this process's time, and their version: its own and those above."""
    paths = {}
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            paths[2] = path
        elif "cpu" in controllers.split(","):
            paths[1] = path
    for version, top, mount in _mounts(root):
        if version not in paths:
            continue
        try:
            below = PurePosixPath(paths[version]).relative_to(top)
        except ValueError:
            below = PurePosixPath()
        # A container may see its own group at the root of the mount, while the path still names the groups around it.
        folder = mount / below if ".." not in below.parts and (mount / below).is_dir() else mount
        yield folder, version
        while folder != mount:
            folder = folder.parent
            yield folder, version


def _mounts(root: Path) -> Iterator[tuple[int, str, Path]]:
    """Yield version, top group and place of each mounted hierarchy of control groups that may limit time: see cgroups(7)."""
    for mount in mounts(_text(root / "proc/self/mountinfo") or ""):
        if mount.kind == "cgroup2" or (mount.kind == "cgroup" and "cpu" in mount.options):
            yield 2 if mount.kind == "cgroup2" else 1, mount.root, root / mount.point.lstrip("/")


def _quota(folder: Path, version: int) -> float | None:
    if version == 2:
        numbers = (_text(folder / "cpu.max") or "").split()
    else:
        numbers = [_text(folder / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
    if len(numbers) != 2 or numbers[0] in _NO_QUOTA or not all(re.fullmatch("[0-9]{1,18}", number) for number in numbers):
        return None
    quota, period = map(int, numbers)
    return quota / period if quota > 0 and period > 0 else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
