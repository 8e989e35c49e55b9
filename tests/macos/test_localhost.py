"""`localhost` as macOS has it, ::1 first: an /etc/hosts of its own in a mount namespace, and libzmq's own look-ups."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from daemon_process import SHORT, TINY, Daemon

WAYS = (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"], ["sudo", "-n", "unshare", "--mount"])
HOSTS = "::1 localhost\n127.0.0.1 localhost\n"
CLIENT = """
import sys, zmq
with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
    subscriber.setsockopt(zmq.IPV6, "[" in sys.argv[1])
    subscriber.subscribe(b"")
    subscriber.connect(sys.argv[1])
    assert subscriber.poll(60_000), "nothing came"
"""

pytestmark = [pytest.mark.slow, pytest.mark.linux]


def namespace() -> list[str]:
    """A command that runs another one with its own mounts."""
    for way in WAYS:
        if shutil.which(way[0]) and subprocess.run([*way, "true"], capture_output=True, check=False).returncode == 0:
            return way
    text = "mount namespaces are not allowed here"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)


def on_a_mac(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command that finds `localhost` as on a Mac."""
    hosts = folder / "hosts"
    hosts.write_text(HOSTS)
    script = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'
    words = [*namespace(), "sh", "-c", script, "sh", str(hosts), *command]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)


def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_the_name_is_ipv6_first(tmp_path: Path) -> None:
    program = "import socket; print([info[4][0] for info in socket.getaddrinfo('localhost', 1, type=socket.SOCK_STREAM)])"
    assert on_a_mac(tmp_path, sys.executable, "-c", program).stdout.split() == ["['::1',", "'127.0.0.1']"]


def test_a_client_of_localhost_hears_a_daemon_on_ipv4(tmp_path: Path) -> None:
    endpoints = ("tcp://127.0.0.1:*", "tcp://127.0.0.1:*")
    with Daemon(*TINY, *SHORT, "--source", "synth:chords", endpoints=endpoints) as daemon:
        daemon.until(lambda s: s.phase == "running")
        publish, control = (e.replace("127.0.0.1", "localhost") for e in (daemon.publish, daemon.control))
        mertd = str(Path(sys.executable).with_name("mertd"))
        done = on_a_mac(tmp_path, mertd, "tail", "--connect", publish, "--control", control, "--count", "1", "--timeout", "60")
        assert done.returncode == 0, done.stderr
        daemon.stop()


def test_a_daemon_on_localhost_is_reached_at_both_addresses(tmp_path: Path) -> None:
    """It looks the name up as on a Mac; clients that know nothing of mertd connect to either."""
    publish, control = port(), port()
    hosts = tmp_path / "hosts"
    hosts.write_text(HOSTS)
    script = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'
    command = [*namespace(), "sh", "-c", script, "sh", str(hosts), sys.executable, "-m", "mertd", "run", *TINY, *SHORT]
    command += ["--source", "synth:chords", "--bind", f"tcp://localhost:{publish}", "--control", f"tcp://localhost:{control}"]
    daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        for address in ("127.0.0.1", "[::1]"):
            client = [sys.executable, "-c", CLIENT, f"tcp://{address}:{publish}"]
            done = subprocess.run(client, capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == 0, done.stderr
    finally:
        daemon.terminate()
        _, text = daemon.communicate(timeout=60)
    assert daemon.returncode == 0, text
