"""A private PulseAudio with null sinks: a sound card that every Linux machine has, and that can be made to fail."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

SINK = "cap"
NEEDED = ("pulseaudio", "pacat", "pactl")


def require() -> None:
    """Skip where the parts are missing; in CI that is a failure."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if not has_portaudio():
        missing.append("libportaudio2")
    if missing:
        reason = f"needs {', '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def has_portaudio() -> bool:
    """Whether the library is installed, without which no device can be looked for."""
    try:
        import sounddevice  # noqa: F401
    except OSError:
        return False
    return True


class SoundServer:
    """One server, as a context manager. `environment`: where programs find it and capture its default source."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "HOME": str(folder)}
        self.environment.pop("PULSE_SOURCE", None)
        self._sinks: dict[str, str] = {}  # name, number of the module

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    def start(self) -> None:
        """Start the server, without a sink."""
        self.process = subprocess.Popen(
            [
                "pulseaudio",
                "-n",
                "--daemonize=no",
                "--exit-idle-time=-1",
                "--use-pid-file=no",
                "-L",
                "module-native-protocol-unix auth-anonymous=1",
            ],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while subprocess.run(["pactl", "info"], env=self.environment, capture_output=True, check=False).returncode:
            assert self.process.poll() is None, "pulseaudio ended"
            assert time.monotonic() < deadline, "pulseaudio does not answer"
            time.sleep(0.1)  # between questions

    def kill(self) -> None:
        """End the server as a crash would."""
        self.process.kill()
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def control(self, *words: str) -> str:
        """Run `pactl` and return its output."""
        return subprocess.run(
            ["pactl", *words], env=self.environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    def add_sink(self, name: str, *options: str) -> None:
        """Add a null sink at 48 kHz, stereo by default, whose monitor `NAME.monitor` delivers what is played into it."""
        form = options or ("channels=2",)
        self._sinks[name] = self.control("load-module", "module-null-sink", f"sink_name={name}", "rate=48000", *form)

    def remove_sink(self, name: str) -> None:
        self.control("unload-module", self._sinks.pop(name))

    def noise(self, sink: str, volume: int = 20_000) -> subprocess.Popen[bytes]:
        """Start an endless player of white noise. `volume`: of 65,536."""
        with Path("/dev/urandom").open("rb") as source:
            command = ["pacat", f"--device={sink}", "--raw", "--format=s16le", "--rate=48000", "--channels=2"]
            return subprocess.Popen(
                [*command, "--latency-msec=100", f"--volume={volume}"],
                env=self.environment,
                stdin=source,
                stderr=subprocess.DEVNULL,
            )


@contextmanager
def sound_server(folder: Path) -> Iterator[dict[str, str]]:
    """Yield an environment with a server, in which PortAudio's device `pulse` captures what is played into the sink."""
    with SoundServer(folder) as server:
        server.add_sink(SINK)
        yield {**server.environment, "PULSE_SOURCE": f"{SINK}.monitor"}


def play(raw: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Play a file of raw s16le stereo at 48 kHz into the sink, in real time."""
    command = ["pacat", f"--device={SINK}", "--raw", "--format=s16le", "--rate=48000", "--channels=2", "--latency-msec=100"]
    return subprocess.Popen([*command, str(raw)], env=environment)
