"""`loopback:` captures what a private sound server plays, on the output named or on the default one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from command_process import running
from daemon_process import TINY
from device import pulse

pytestmark = [pytest.mark.slow, pytest.mark.device, pytest.mark.xdist_group("device")]


def hear(server: pulse.SoundServer, source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a daemon until it has published two windows or given up, and return what `tail` printed."""
    endpoints = [f"ipc://{folder}/{name}" for name in ("p", "c")]
    options = [*TINY, "--window", "1", "--hop", "0.5", "--source", source, "--bind", endpoints[0], "--control", endpoints[1]]
    mertd = [sys.executable, "-m", "mertd"]
    environment = {key: value for key, value in server.environment.items() if key != "PULSE_SOURCE"}
    with running([*mertd, "run", *options], env=environment, stderr=subprocess.PIPE, text=True) as daemon:
        where = ["--connect", endpoints[0], "--control", endpoints[1]]
        shown = [*mertd, "tail", "--json", "--events", "--count", "2", "--timeout", "60", *where]
        if source.endswith("nothing"):
            assert daemon.stderr is not None
            text = daemon.stderr.read()
            return subprocess.CompletedProcess(options, daemon.wait(60), "", text)
        done = subprocess.run(shown, env=environment, capture_output=True, text=True, timeout=120, check=False)
        daemon.terminate()
        assert daemon.stderr is not None
        return subprocess.CompletedProcess(options, done.returncode, done.stdout, done.stderr + daemon.stderr.read())


def test_monitors_are_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    pulse.require()
    folder = tmp_path_factory.mktemp("p")
    folder.chmod(0o700)
    with pulse.SoundServer(folder / "server") as server:
        for name in ("left", "right"):
            server.add_sink(name)
        server.control("set-default-sink", "right")
        players = [server.noise("left", 40_000), server.noise("right", 10_000)]
        try:
            levels = {}
            for source, sink in (("loopback:", "right"), ("loopback:left", "left")):
                done = hear(server, source, folder)
                assert done.returncode == 0, done.stderr
                assert "loopback of" in done.stderr
                assert f"({sink}.monitor)" in done.stderr
                messages = [json.loads(line) for line in done.stdout.splitlines()]
                levels[sink] = next(m["audio"]["rms_dbfs"] for m in messages if m["kind"] == "embedding")
            assert levels["left"] > levels["right"] + 6, levels
            wrong = hear(server, "loopback:nothing", folder)
            assert wrong.returncode == 3
            assert "no output like 'nothing'; there are 'left', 'right'" in wrong.stderr
        finally:
            for player in players:
                player.kill()
                player.wait()
