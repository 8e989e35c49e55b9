"""A private PulseAudio with a null sink: a sound card that every Linux machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SINK = "cap"
NEEDED = ("pulseaudio", "pacat", "pactl")


def require() -> None:
    """Skip where the parts are missing; in CI that is a failure."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    try:
        import sounddevice  # noqa: F401
    except OSError:
        missing.append("libportaudio2")
    if missing:
        reason = f"needs {', '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@contextmanager
def sound_server(folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which programs find the server: PortAudio's device `pulse` hears what is played into the sink."""
    folder.mkdir(mode=0o700, exist_ok=True)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "HOME": str(folder), "PULSE_SOURCE": f"{SINK}.monitor"}
    server = subprocess.Popen(
        [
            "pulseaudio",
            "-n",
            "--daemonize=no",
            "--exit-idle-time=-1",
            "--use-pid-file=no",
            "-L",
            "module-native-protocol-unix auth-anonymous=1",
            "-L",
            f"module-null-sink sink_name={SINK} rate=48000 channels=2",
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while subprocess.run(["pactl", "info"], env=environment, capture_output=True, check=False).returncode:
            assert server.poll() is None, "pulseaudio ended"
            assert time.monotonic() < deadline, "pulseaudio does not answer"
            time.sleep(0.1)  # between questions
        yield environment
    finally:
        server.kill()
        server.wait()


def play(raw: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Play a file of raw s16le stereo at 48 kHz into the sink, in real time."""
    command = ["pacat", f"--device={SINK}", "--raw", "--format=s16le", "--rate=48000", "--channels=2", "--latency-msec=100"]
    return subprocess.Popen([*command, str(raw)], env=environment)
