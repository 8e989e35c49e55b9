"""The examples, run as a reader would run them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from daemon_process import TINY, Daemon
from mertd.stream.client.subscriber import Subscriber
from mertd.stream.curve_keys import ClientKeys
from mertd.stream.keyring import Keyring
from mertd.wire import Embedding

EXAMPLES = Path(__file__).parents[2] / "examples"
LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{6} chords \(2, 64\) \[ ?-?\d+\.\d* +-?\d+\.\d* +-?\d+\.\d*\s*\]")


@pytest.mark.slow
def test_subscribe() -> None:
    with Daemon(*TINY, "--window", "1", "--hop", "0.25", "--source", "synth:chords") as daemon:
        daemon.bound()
        command = [sys.executable, EXAMPLES / "subscribe.py", daemon.publish, "3"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all(LINE.fullmatch(line) for line in lines), lines
    assert len({line.split("[")[1] for line in lines}) == 3  # the music moves, and so do the vectors


def test_subscribe_knows_nothing_of_mertd() -> None:
    source = (EXAMPLES / "subscribe.py").read_text()
    assert not re.search(r"^\s*(import|from) mertd", source, re.MULTILINE)
    assert len(source.splitlines()) <= 40


@pytest.mark.slow
def test_follow_and_follow_async() -> None:
    with Daemon(*TINY, "--window", "1", "--hop", "0.25", "--source", "synth:chords", "--name", "attic") as daemon:
        daemon.until(lambda s: s.streams["chords"]["embedded"] > 2)
        where = [daemon.publish, daemon.control, "5"]
        sync, asynchronous = (
            subprocess.run([sys.executable, EXAMPLES / name, *where], capture_output=True, text=True, timeout=60, check=True)
            for name in ("follow.py", "follow_async.py")
        )
    lines = [line.split() for line in sync.stdout.splitlines()]
    assert [line[:2] for line in lines] == [["attic", "chords"]] * 5
    assert [line[3] for line in lines] == ["before"] * 2 + ["live"] * 3
    numbers = [int(line[2]) for line in lines]
    assert numbers == list(range(numbers[0], numbers[0] + 5))
    assert sync.stderr == "0 fetched, 0 lost\n"
    assert len(re.findall(r"^chords \d+ cosine 0\.\d{4}$", asynchronous.stdout, re.MULTILINE)) == 4


@pytest.mark.slow
def test_a_pipeline_with_jq() -> None:
    needs("jq", "uv")
    with Daemon(*TINY, "--window", "1", "--hop", "0.25", "--source", "synth:chords") as daemon:
        daemon.bound()
        where = ["--connect", daemon.publish, "--control", daemon.control, "--count", "3"]
        done = subprocess.run([EXAMPLES / "louder.sh", *where], capture_output=True, text=True, timeout=120, check=True)
    assert len(re.findall(r"^20\d\d-\d\d-\d\dT\S+Z chords -\d+\.\d+ dBFS$", done.stdout, re.MULTILINE)) == 3


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """Commands of the clients in other languages, built and installed as their heads say."""
    needs("cc", "pkg-config", "node", "npm")
    folder = tmp_path_factory.mktemp("clients")
    for name in ("subscribe.c", "subscribe.mjs", "package.json"):
        shutil.copy(EXAMPLES / name, folder)
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libzmq", "msgpack"], capture_output=True, text=True, check=False
    )
    if flags.returncode:
        missing(flags.stderr)
    compile_it = [
        "cc",
        "-std=c11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-O2",
        "-o",
        "subscribe",
        "subscribe.c",
        *flags.stdout.split(),
    ]
    subprocess.run(compile_it, cwd=folder, check=True, timeout=120)
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, timeout=200, check=False
    )
    if installed.returncode:
        missing(installed.stderr.decode())
    return [[str(folder / "subscribe")], ["node", str(folder / "subscribe.mjs")]]


@pytest.mark.slow
def test_clients_in_other_languages_read_the_same_numbers(clients: list[list[str]]) -> None:
    """All 768 of each message, bit for bit, and the same time."""
    with Daemon("--weights", "random:0", "--window", "1", "--hop", "1", "--source", "synth:chords") as daemon:
        daemon.until(lambda s: s.streams["chords"]["embedded"] > 0)
        compare(clients, daemon.publish, daemon.control, {})


@pytest.mark.slow
def test_clients_in_other_languages_with_curve(clients: list[list[str]], tmp_path: Path) -> None:
    """Over IPv6, where there is any: `localhost` is ::1 on some machines."""
    ring = Keyring(tmp_path / "keys")
    server, _ = ring.new_server()
    own = ring.new_client("radio", server.public)
    ring.allow("radio", own.public)
    options = ["--window", "1", "--hop", "1", "--source", "synth:chords", "--curve", "--keys", ring.folder]
    anywhere = ("tcp://[::1]:*", "tcp://[::1]:*") if has_ipv6() else None
    with Daemon("--weights", "random:0", *options, keys=ring.client(), endpoints=anywhere) as daemon:
        daemon.until(lambda s: s.streams["chords"]["embedded"] > 0)
        keys = {"CURVE_SERVER_KEY": server.public, "CURVE_PUBLIC_KEY": own.public, "CURVE_SECRET_KEY": own.secret}
        compare(clients, daemon.publish, daemon.control, keys, ring.client())
        assert not any(daemon.status().processes["supervisor"]["rejected"].values())


def compare(clients: list[list[str]], publish: str, control: str, keys: dict[str, str], own: ClientKeys | None = None) -> None:
    """Run the clients until each has printed three messages, and hold these against what the library gets."""
    environment = {**os.environ, **keys}
    running = [
        subprocess.Popen([*command, "--bits", publish, "3"], stdout=subprocess.PIPE, text=True, env=environment)
        for command in clients
    ]
    lines = [process.communicate(timeout=120)[0].splitlines() for process in running]
    assert all(process.returncode == 0 for process in running)
    truth: dict[str, str] = {}
    with Subscriber(publish, control=control, last=1_000, keys=own) as subscriber:
        while (received := subscriber.receive(0.5)) is not None and len(truth) < 500:
            message = received.message
            assert isinstance(message, Embedding)
            bits = " ".join(f"{word:08x}" for word in message.vector.ravel().view("<u4"))
            truth[f"{message.seq}"] = f"{message.daemon} {message.stream} {message.seq} {message.time.start_ns} {bits}"
    for command, printed in zip(clients, lines, strict=True):
        assert len(printed) == 3, command
        for line in printed:
            assert len(line.split()) == 4 + 768
            assert line == truth[line.split()[2]], command


def has_ipv6() -> bool:
    """Whether this machine has a loopback interface for IPv6."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


def needs(*programs: str) -> None:
    """Skip where a program is missing; in CI that is a failure."""
    if absent := [program for program in programs if shutil.which(program) is None]:
        missing(f"needs {', '.join(absent)}")


def missing(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
