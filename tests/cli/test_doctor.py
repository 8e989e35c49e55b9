"""`mertd doctor` on a machine with real faults. tests/doctor/test_findings.py simulates a full disk and a step of the clock."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon_process import SHORT, TINY, Daemon
from device import pulse

TINY_WEIGHTS = {"MERTD_WEIGHTS": "random:0?size=tiny", "MERTD_LAYERS": "1", "MERTD_WINDOW": "1"}


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment without weights, configuration or sound server, and with a folder for locks."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "PULSE", "MERTD"))}
    return {**plain, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(runtime)}


def examine(environment: dict[str, str], *options: str, code: int = 3) -> list[dict[str, Any]]:
    """All findings that are not ok."""
    done = mertd(environment, "doctor", "--json", *options)
    assert done.returncode == code, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["problem"] == (code == 3)
    return [finding for finding in found["findings"] if finding["level"] != "ok"]


def says(found: list[dict[str, Any]], check: str, text: str, fix: str) -> bool:
    return any(f["check"] == check and text in f["text"] and fix in f["fix"] and f["why"] for f in found)


@pytest.mark.linux  # there is no input device, and no dialogue about one
def test_no_weights_no_device_a_port_taken_and_a_stale_lock(home: dict[str, str]) -> None:
    locks = Path(home["XDG_RUNTIME_DIR"], "mertd")
    locks.mkdir(mode=0o700)
    stale = locks / (hashlib.sha256(b"x").hexdigest()[:16] + ".lock")
    stale.write_text('{"pid": 1, "publish": "x", "control": "y"}')
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        endpoint = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        found = examine({**home, "MERTD_BIND": endpoint})
    assert says(found, "weights", "there are no weights at", "mertd model pull")
    if pulse.has_portaudio():
        assert says(found, "devices", "there is no input device", "plug one in")
    else:  # as on a new machine
        assert says(found, "portaudio", "PortAudio is not installed", "install")
    assert says(found, "endpoints", f"{endpoint} is in use by another program", "mertd run --bind")
    assert says(found, "locks", f"{stale} is left over", f"rm {stale}")


@pytest.mark.slow
def test_broken_weights(home: dict[str, str]) -> None:
    path = Path(home["HOME"], "broken.safetensors")
    path.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    assert says(examine({**home, "MERTD_WEIGHTS": str(path)}), "weights", str(path), "mertd model check")


@pytest.mark.slow
def test_a_bad_configuration(home: dict[str, str]) -> None:
    path = Path(home["HOME"], "mertd.toml")
    path.write_text("hop = 0\nwindw = 3")
    found = examine({**home, **TINY_WEIGHTS}, "--quick", "--config", str(path))
    assert says(found, "configuration", "hop: should be greater", "mertd config check")
    assert says(found, "configuration", "did you mean 'window'", "mertd config check")
    path.write_text("hop = = 0")
    assert says(examine(home, "--quick", "--config", str(path)), "configuration", "is not TOML", "mertd config check")


@pytest.mark.slow
@pytest.mark.linux
def test_a_library_that_is_missing(home: dict[str, str]) -> None:
    """PortAudio, hidden from the loader by a library of its name that is none."""
    folder = Path(home["HOME"], "lib")
    folder.mkdir()
    (folder / "libportaudio.so.2").write_text("no library")
    found = examine({**home, **TINY_WEIGHTS, "LD_LIBRARY_PATH": str(folder)}, "--quick")
    assert says(found, "portaudio", "PortAudio is not installed", "install")


@pytest.mark.slow
def test_a_running_daemon_is_no_fault() -> None:
    with Daemon(*TINY, *SHORT, "--source", "synth:chords", endpoints=("tcp://127.0.0.1:*", "tcp://127.0.0.1:*")) as daemon:
        daemon.until(lambda s: s.phase == "running")
        where = {"MERTD_BIND": daemon.publish, "MERTD_CONTROL": daemon.control, "MERTD_SOURCE": "synth:chords"}
        environment = {**daemon.traces.environment, **TINY_WEIGHTS, **where}
        done = mertd(environment, "doctor", "--quick")
        assert f"process {daemon.process.pid}" in done.stdout
        assert "bound by mertd, process" in done.stdout
        daemon.stop()


@pytest.mark.slow
def test_modules_of_the_working_directory_are_not_imported(home: dict[str, str], tmp_path: Path) -> None:
    """Neither by the command nor by the processes in which it tries devices and the model."""
    folder, ran = tmp_path / "folder", tmp_path / "ran"
    folder.mkdir()
    for name in ("json", "math", "numpy", "sounddevice", "soundfile", "soxr", "onnxruntime", "sitecustomize", "mertd"):
        (folder / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write({name!r})\nraise ImportError('of a stranger')\n")
    program = Path(sys.executable).with_name("mertd")
    command = [str(program), "doctor", "--json"]
    done = subprocess.run(
        command, cwd=folder, env={**home, **TINY_WEIGHTS}, capture_output=True, text=True, timeout=120, check=False
    )
    assert not ran.exists(), f"{ran.read_text()} ran"
    found = json.loads(done.stdout)["findings"]
    assert [finding["text"] for finding in found if finding["check"] == "doctor"] == [], "every process has answered"


@pytest.mark.slow
@pytest.mark.device
def test_devices_muted_silent_with_sound_and_of_a_narrow_rate(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One source after the other as the default of a private server."""
    pulse.require()
    folder = tmp_path_factory.mktemp("pulse")
    with pulse.SoundServer(folder) as server:
        for name in ("loud", "idle"):
            server.add_sink(name)
        player = server.noise("loud")
        try:
            for found in heard(server, "loud"):
                assert not found, "all is well"
            server.control("set-source-mute", "loud.monitor", "1")
            for found in heard(server, "loud"):
                assert says(found, "devices", "muted", "pactl set-source-mute")
            server.control("set-source-mute", "loud.monitor", "0")
            for found in heard(server, "idle"):
                assert says(found, "devices", "idle monitor", "play something")
            for found in heard(server, "loud", "?rate=16000"):
                assert says(found, "devices", "16000 Hz", "rate=48000")
            for found in heard(server, "loud", "", "NoSuchDevice"):
                assert says(found, "devices", "no input device 'NoSuchDevice'", "mertd devices")
        finally:
            player.kill()
            player.wait()


def heard(server: pulse.SoundServer, sink: str, options: str = "", name: str = "pulse") -> Iterator[list[dict[str, Any]]]:
    """Findings about the requested device, with the monitor of a sink as its source."""
    environment = {**server.environment, **TINY_WEIGHTS, "PULSE_SOURCE": f"{sink}.monitor"}
    source = {"MERTD_SOURCE": f"device:{name}{options}"}
    done = mertd({**environment, **source}, "doctor", "--json")
    found = json.loads(done.stdout)["findings"]
    concerned = [f for f in found if f["check"] == "devices" and (name + options in f["text"] or name in f["text"])]
    assert concerned, found
    yield [f for f in concerned if f["level"] != "ok" and (options == "" or options in f["text"])]


def mertd(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [sys.executable, "-m", "mertd", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
