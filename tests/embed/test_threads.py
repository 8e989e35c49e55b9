"""Threads that compute: as many as asked for, as OMP_NUM_THREADS says, or as the machine lets this process use."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from daemon_process import SHORT, TINY, Daemon, music, write_wav
from mertd.embed import threads
from mertd.embed.threads import MAX_THREADS, asked_on, choose, cpu_quota

pytestmark = pytest.mark.linux  # cgroups, and the cores that a process may use

V1 = "33 32 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "34 32 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
V2 = "31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
HYBRID = "41 32 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"


def tree(root: Path, mounts: list[str], groups: str, files: dict[str, str]) -> Path:
    """A file tree that stands for the system's: what proc(5) and cgroups(7) describe."""
    own = root / "proc" / "self"
    own.mkdir(parents=True)
    (own / "mountinfo").write_text("\n".join(["22 1 8:1 / / rw - ext4 /dev/sda1 rw", *mounts]) + "\n")
    (own / "cgroup").write_text(groups + "\n")
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    return root


QUOTAS: dict[str, tuple[list[str], str, dict[str, str], float | None]] = {
    "version 2": ([V2], "0::/a", {"a/cpu.max": "150000 100000"}, 1.5),
    "version 2, none": ([V2], "0::/a", {"a/cpu.max": "max 100000"}, None),
    "a limit above": ([V2], "0::/a/b/c", {"a/cpu.max": "200000 100000", "a/b/c/cpu.max": "max 100000"}, 2),
    "limits on two levels": ([V2], "0::/a/b", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "50000 100000"}, 0.5),
    "a container's own root": ([V2], "0::/", {"cpu.max": "400000 100000"}, 4),
    "a path of the host, seen in a container": ([V2], "0::/docker/4cd1", {"cpu.max": "250000 100000"}, 2.5),
    "a path that leads out": ([V2], "0::/../../x", {"cpu.max": "100000 100000"}, 1),
    "a mount of a part": ([V2.replace(" / /sys", " /docker/4cd1 /sys")], "0::/docker/4cd1/x", {"x/cpu.max": "7 2"}, 3.5),
    "version 1": (
        [V1_MEMORY, V1],
        "5:memory:/m\n3:cpu,cpuacct:/a",
        {"cpu,cpuacct/a/cpu.cfs_quota_us": "765000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
        7.65,
    ),
    "version 1, none": (
        [V1],
        "3:cpu,cpuacct:/",
        {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
        None,
    ),
    "version 1 beside version 2": (
        [V1, HYBRID],
        "3:cpu,cpuacct:/a\n0::/init.scope",
        {"cpu,cpuacct/a/cpu.cfs_quota_us": "50000", "cpu,cpuacct/a/cpu.cfs_period_us": "50000", "unified/init.scope/x": ""},
        1,
    ),
    "only the time that has passed is counted": ([V1], "2:cpuacct:/a", {"cpu,cpuacct/a/cpu.cfs_quota_us": "50000"}, None),
    "a quota without a period": ([V1], "3:cpu:/a", {"cpu,cpuacct/a/cpu.cfs_quota_us": "50000"}, None),
    "nonsense": ([V2, "x", "- -", "1 2 3 4 5 - cgroup2"], "0::/a\nx\n::", {"a/cpu.max": "many few"}, None),
    "a quota of nothing": ([V2], "0::/a", {"a/cpu.max": "0 100000"}, None),
    "a period of nothing": ([V2], "0::/a", {"a/cpu.max": "100000 0"}, None),
    "no control groups": ([], "", {}, None),
}


@pytest.mark.parametrize("kind", QUOTAS)
def test_the_quota_of_control_groups(tmp_path: Path, kind: str) -> None:
    mounts, groups, files, expected = QUOTAS[kind]
    assert cpu_quota(tree(tmp_path, mounts, groups, files)) == expected


def test_a_mount_point_with_a_blank(tmp_path: Path) -> None:
    mount = V2.replace("/sys/fs/cgroup", r"/sys/fs/cgroup/my\040groups")
    assert cpu_quota(tree(tmp_path, [mount], "0::/", {"my groups/cpu.max": "300000 100000"})) == 3


def test_no_proc_at_all(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None
    assert choose(None, {}, tmp_path).count >= 1


@pytest.fixture
def eight_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 8 cores with two threads each, of which this process may use all, without a quota."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    for number in range(16):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{number}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{number % 8},{number % 8 + 8}\n")
    return tmp_path


def test_the_default_is_what_may_be_used(eight_cores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(None, {}, eight_cores) == threads.ThreadLimit(8, "cores that may be used")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 9, 2})
    assert choose(None, {}, eight_cores).count == 2, "1 and 9 are one core"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {40, 41})
    assert choose(None, {}, eight_cores).count == 2, "of which nothing is known"


@pytest.mark.parametrize(
    ("quota", "count"),
    [("765000", 7), ("100000", 1), ("150000", 1), ("20000", 1), ("790000", 7), ("800000", 8), ("6400000", 8)],
)
def test_a_quota_is_rounded_down(eight_cores: Path, quota: str, count: int) -> None:
    """One thread more than may run, and all of them are stopped for the rest of every period."""
    tree(eight_cores, [V2], "0::/a", {"a/cpu.max": f"{quota} 100000"})
    found = choose(None, {}, eight_cores)
    assert found.count == count
    assert ("quota" in found.reason) == (count < 8)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1", 1),
        ("3", 3),
        (" 12 ", 12),
        ("4,2", 4),
        ("0", 8),
        ("-1", 8),
        ("many", 8),
        ("", 8),
        ("99999", 8),
        ("2.5", 8),
        ("²", 8),
    ],
)
def test_openmps_variable(eight_cores: Path, text: str, count: int) -> None:
    found = choose(None, {"OMP_NUM_THREADS": text}, eight_cores)
    assert found.count == count
    assert (found.reason == "OMP_NUM_THREADS") == (count != 8)


def test_what_is_asked_for_wins(eight_cores: Path) -> None:
    tree(eight_cores, [V2], "0::/a", {"a/cpu.max": "100000 100000"})
    assert choose(5, {"OMP_NUM_THREADS": "3"}, eight_cores) == threads.ThreadLimit(5, "as asked")
    assert choose(None, {"OMP_NUM_THREADS": "3"}, eight_cores).count == 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "--threads", "3"], 3),
        (["embed", "a.wav", "--threads=4"], 4),
        (["run", "--threads"], None),
        (["run", "--threads", "x"], None),
        (["run", "--threads", "0"], None),
        (["run", "--threads", str(MAX_THREADS + 1)], None),
        (["run"], None),
        ([], None),
    ],
)
def test_the_command_line_is_read_before_numpy_is_loaded(arguments: list[str], expected: int | None) -> None:
    assert asked_on(arguments) == expected


def test_variables_of_the_user_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads._Process, "written", frozenset())
    for name in threads.BLAS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "5")
    for count in (3, 1):
        threads.limit_blas(count)
        assert [os.environ[name] for name in threads.BLAS_VARIABLES] == ["5", *[str(count)] * 3]


@pytest.mark.parametrize(("variable", "written", "count"), [(None, False, 1), ("2", True, 1), ("2", False, 2)])
def test_libraries_that_are_loaded_already_are_limited(variable: str | None, written: bool, count: int) -> None:
    """In a program that uses mertd as a library. What the user has set in the environment stays."""
    code = f"""
import numpy
from threadpoolctl import threadpool_info
from mertd.embed import threads
threads._Process.written = frozenset(threads.BLAS_VARIABLES) if {written} else frozenset()
threads.limit(1)
print(max(pool["num_threads"] for pool in threadpool_info()))
"""
    outer = {name: value for name, value in os.environ.items() if not name.endswith("_THREADS")}
    environment = outer if variable is None else {**outer, "OPENBLAS_NUM_THREADS": variable}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True, timeout=60)
    assert int(done.stdout) == min(count, len(os.sched_getaffinity(0)))


# What is really started. A process has a thread of its own, and numpy's and ONNX Runtime's pools each one less than they use.

SCRIPT = """
import os, sys, threading
from mertd.cli import main
from mertd.embed import threads

def watch(backend):
    embed = backend.embed
    def counting(self, windows):
        result = embed(self, windows)
        if threading.current_thread() is not threading.main_thread():
            return result  # looking at the loaded libraries must not meet the main thread's imports
        session = getattr(self, "_session", None)
        asked = session.get_session_options().intra_op_num_threads if session else 0
        from threadpoolctl import threadpool_info
        blas = max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=0)
        print(f"{self.name}: session {asked}, tasks {len(os.listdir('/proc/self/task'))}, blas {blas}", file=sys.stderr)
        return result
    backend.embed = counting

limit = threads.limit
def limit_and_watch(asked=None):  # by now numpy is loaded, as mertd loads it
    from mertd.embed.backends.onnx_backend import OnnxBackend
    from mertd.embed.backends.numpy_backend import NumpyBackend
    watch(OnnxBackend)
    watch(NumpyBackend)
    return limit(asked)

threads.limit = limit_and_watch
sys.argv = ["mertd", *sys.argv[1:]]
main()
"""
"""`mertd`, which also prints the number of threads that it has after each batch."""


def counted(backend: str, stderr: str) -> tuple[int, int, int]:
    """The last figures of a backend: the session's setting, threads of the process, threads of numpy's library."""
    found = re.findall(rf"{backend}: session (\d+), tasks (\d+), blas (\d+)", stderr)
    assert found, stderr
    session, tasks, blas = map(int, found[-1])
    return session, tasks, blas


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wav(tmp_path_factory.mktemp("sound") / "song.wav", music(1.5))


def embed(wav: Path, *options: str, prefix: tuple[str, ...] = (), **environment: str) -> str:
    outer = {name: value for name, value in os.environ.items() if not name.endswith("_THREADS")}
    words = [*prefix, sys.executable, "-c", SCRIPT, "embed", str(wav), *SHORT, *TINY, *options]
    done = subprocess.run(words, capture_output=True, text=True, env={**outer, **environment}, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("options", "environment", "count"),
    [(["--threads", "3"], {}, 3), (["--threads=1"], {"OMP_NUM_THREADS": "4"}, 1), ([], {"OMP_NUM_THREADS": "3"}, 3)],
)
@pytest.mark.slow
def test_onnx_runtime_starts_as_many_as_asked(wav: Path, options: list[str], environment: dict[str, str], count: int) -> None:
    session, tasks, blas = counted("onnx", embed(wav, "--backend", "onnx", *options, **environment))
    assert session == count
    assert blas == min(count, len(os.sched_getaffinity(0))), "OpenBLAS starts no more than there are processors"
    assert tasks <= 1 + 2 * (count - 1) + 2, "the main thread, two pools, and threads of our own"


@pytest.mark.slow
def test_numpy_starts_as_many_as_asked(wav: Path) -> None:
    found = {count: counted("numpy", embed(wav, "--backend", "numpy", "--threads", count)) for count in ("1", "2")}
    assert found["1"][2] == 1
    if len(os.sched_getaffinity(0)) > 1:
        assert found["2"][2] == 2
        assert found["2"][1] == found["1"][1] + 2, "one more of numpy's library, and one more that decodes"


@pytest.mark.slow
def test_a_process_bound_to_one_core_starts_one_thread(wav: Path) -> None:
    code = "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); os.execv(sys.argv[1], sys.argv[1:])"
    session, _, blas = counted("onnx", embed(wav, "--backend", "onnx", prefix=(sys.executable, "-c", code)))
    assert session == blas == 1


@contextlib.contextmanager
def group_of_one_processor() -> Iterator[Path | None]:
    """A control group that may use one processor's time, of version 2 or 1; None where the system does not let us make one."""
    name = f"mertd-test-{uuid4().hex}"
    made = None
    for parent, limits in (
        (Path("/sys/fs/cgroup"), {"cpu.max": "100000 100000"}),
        (Path("/sys/fs/cgroup/cpu"), {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "100000"}),
    ):
        folder = parent / name
        try:
            folder.mkdir()
        except OSError:
            continue
        if all((folder / file).exists() for file in (*limits, "cgroup.procs")):  # not a plain directory
            for file, content in limits.items():
                (folder / file).write_text(content)
            made = folder
            break
        folder.rmdir()
    try:
        yield made
    finally:
        if made is not None:
            made.rmdir()


@pytest.mark.slow
def test_a_real_control_group(wav: Path, tmp_path: Path) -> None:
    """Where one can be made; elsewhere, a file tree stands for it."""
    enter = (
        "import os, sys; open(sys.argv[1] + '/cgroup.procs', 'w').write(str(os.getpid())); os.execv(sys.argv[2], sys.argv[2:])"
    )
    with group_of_one_processor() as group:
        if group is None:
            assert choose(None, {}, tree(tmp_path, [V2], "0::/", {"cpu.max": "100000 100000"})).count == 1
            return
        session, _, blas = counted("onnx", embed(wav, "--backend", "onnx", prefix=(sys.executable, "-c", enter, str(group))))
    assert session == blas == 1


@pytest.mark.slow
def test_the_daemons_embed_process_obeys() -> None:
    found = {}
    for count in (1, 4):
        options = ["--source", "synth:chords", *TINY, *SHORT, "--backend", "onnx", "--threads", count]
        with Daemon(*options) as daemon:
            daemon.said(rf"ready on onnx cpu \(float32\), {count} CPU threads \(as asked\)")
            daemon.until(lambda s: s.streams["chords"]["embedded"] > 0)  # one of its threads begins with the first batch
            found[count] = psutil.Process(daemon.pid("embed")).num_threads()
    assert found[4] == found[1] + 3
