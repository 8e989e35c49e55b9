"""Without a sound server, or with one that hangs, nothing waits for ever. tests/device has a real server."""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mertd.capture import libpulse, sound_server
from mertd.capture.device_list import portaudio
from mertd.capture.libpulse import Fragment, RecordStream, load_library
from mertd.capture.sound_server import ServerInput, ServerInputs, find_server, server_inputs
from mertd.errors import SourceError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where libpulse looks for a server."""
    try:
        load_library()
    except SourceError:
        pytest.skip("needs libpulse0")
    for name in ("PULSE_SERVER", "PULSE_RUNTIME_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "pulse").mkdir(mode=0o700)
    return tmp_path / "pulse"


@pytest.fixture
def hanging(folder: Path) -> Iterator[None]:
    """A server that is stopped: it has a socket, and the system accepts connections for it."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "native"))
        server.listen()
        yield


@pytest.mark.usefixtures("folder")
def test_without_a_server_there_are_no_inputs() -> None:
    assert find_server() is None
    with pytest.raises(SourceError, match="is PulseAudio or PipeWire running") as none:
        server_inputs()
    assert none.value.retry
    with pytest.raises(SourceError, match="the sound server refuses: Connection refused") as refusal:
        RecordStream(None, 0)
    assert refusal.value.retry


@pytest.mark.usefixtures("hanging")
def test_a_server_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound_server, "ANSWER_TIMEOUT_S", 0.05)
    monkeypatch.setattr(libpulse, "OPEN_TIMEOUT_S", 0.05)
    assert find_server() is None
    with pytest.raises(SourceError, match="the sound server has not answered for 0 s") as no:
        RecordStream("a.monitor", 44_100, range(8))
    assert no.value.retry


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", absent)
    with pytest.raises(SourceError, match=r"libpulse.so.0 cannot be loaded .*; on Debian: apt install libpulse0"):
        load_library()


def test_pieces_are_dated_from_the_latency_of_what_follows_them() -> None:
    stream = RecordStream.__new__(RecordStream)
    stream.channels, stream.rate = 2, 1_000
    stream._latency_s = lambda: 0.25  # type: ignore[method-assign]
    second, third = bytes(800), bytes(2_400)
    assert stream._dated([(b"", False), (second, True), (third, True)]) == [
        Fragment(second, 100, pytest.approx(0.65), True),  # type: ignore[arg-type]
        Fragment(third, 300, pytest.approx(0.55), True),  # type: ignore[arg-type]
    ]


def test_a_source_is_called_by_its_exact_name() -> None:
    inputs = ServerInputs(
        "s", (ServerInput("mic", "Microphone", (0,)), ServerInput("mic.monitor", "mic", (1, 2), "mic")), "mic", "mic"
    )
    assert inputs.called("mic") is inputs.inputs[0]
    assert inputs.called("Microphone") is None


@pytest.mark.parametrize("ask", [server_inputs, portaudio])
def test_without_a_home_no_library_of_sound_is_asked(monkeypatch: pytest.MonkeyPatch, ask: Callable[[], object]) -> None:
    """ALSA's plugins end the process there."""

    def nowhere(path: Path) -> Path:
        raise RuntimeError(f"Could not determine home directory for {path}.")

    monkeypatch.setattr(Path, "expanduser", nowhere)
    with pytest.raises(SourceError, match="need a home directory, and this user has none; set HOME"):
        ask()
