"""What a sound server offers: the sources of PulseAudio, or of PipeWire in its place, and the monitors of its outputs.

Their sample rates are not among it: pulsectl keeps no copy of them. An open stream knows its own.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass

from mertd.errors import SourceError
from mertd.user_folders import HomeUnknownError, home

ANSWER_TIMEOUT_S = 5.0
"""Seconds to wait for the server."""


@dataclass(frozen=True)
class ServerInput:
    """A source of the server."""

    name: str
    description: str
    positions: tuple[int, ...]  # of its channels, as PulseAudio numbers them
    monitored: str = ""  # name of the output whose monitor it is

    @property
    def channels(self) -> int:
        """The number of its channels."""
        return len(self.positions)

    @property
    def names(self) -> tuple[str, str]:
        """What it may be called, the name first: descriptions may occur twice."""
        return self.name, self.description


@dataclass(frozen=True)
class ServerInputs:
    """The sources of a server."""

    server: str  # name and version
    inputs: tuple[ServerInput, ...]
    default: str  # name of the default source
    default_output: str  # name of the default output

    def called(self, name: str) -> ServerInput | None:
        """Return the source of exactly this name."""
        return next((source for source in self.inputs if source.name == name), None)


def check_home() -> None:
    """Raise `SourceError` if this user has no home directory: ALSA's plugins and libpulse look there, and crash without one."""
    try:
        home()
    except HomeUnknownError as error:
        raise SourceError("sound devices need a home directory, and this user has none; set HOME") from error


def server_inputs() -> ServerInputs:
    """Ask the server. Raises `SourceError`, to be retried if none answers."""
    check_home()
    answers: queue.SimpleQueue[ServerInputs | SourceError] = queue.SimpleQueue()
    # In a thread, since a server that hangs blocks it; pulsectl's own timeout waits to its end even if the server answers.
    threading.Thread(target=lambda: answers.put(_ask()), name="sound-server", daemon=True).start()
    try:
        answer = answers.get(timeout=ANSWER_TIMEOUT_S)
    except queue.Empty:
        raise SourceError(f"the sound server has not answered for {ANSWER_TIMEOUT_S:.0f} s", retry=True) from None
    if isinstance(answer, SourceError):
        raise answer
    return answer


def find_server() -> ServerInputs | None:
    """Ask the server; return None if there is none."""
    try:
        return server_inputs()
    except SourceError:
        return None


def _ask() -> ServerInputs | SourceError:
    try:
        import pulsectl
    except (ImportError, OSError) as error:  # it loads libpulse
        return SourceError(f"PulseAudio and PipeWire cannot be used here ({error})")
    try:
        with pulsectl.Pulse("mertd-devices", connect=False) as server:
            server.connect(autospawn=False)
            info = server.server_info()
            inputs = tuple(
                ServerInput(source.name, source.description, tuple(source.channel_list_raw), source.monitor_of_sink_name or "")
                for source in server.source_list()
            )
    except (pulsectl.PulseError, OSError, UnicodeError) as error:
        return SourceError(f"no sound server answers ({error}); is PulseAudio or PipeWire running?", retry=True)
    name = f"{info.server_name} {info.server_version}" if info.server_name == "pulseaudio" else info.server_name
    return ServerInputs(name, inputs, info.default_source_name or "", info.default_sink_name or "")
