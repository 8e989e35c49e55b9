"""An input of a sound server as an audio source, with all of its channels in their own order."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from mertd.capture.address import Address
from mertd.capture.assembler import Assembler, CallbackBuffer
from mertd.capture.clock_pair import read_clocks
from mertd.capture.input_monitor import monitor_input
from mertd.capture.input_status import explain_zeros
from mertd.capture.libpulse import STEREO, RecordStream
from mertd.capture.live_blocks import live_blocks
from mertd.capture.sound_server import ServerInput, ServerInputs
from mertd.capture.source import COMPLETE, Block, ZerosExplanation
from mertd.errors import SourceError


class ServerSource:
    """An open recording stream of PulseAudio or PipeWire."""

    reopens = False
    end_report = COMPLETE

    def __init__(self, address: Address, server: ServerInputs, chosen: ServerInput | None, follows_default: bool) -> None:
        """`chosen`: None for what the server records by default. Raises `SourceError`, to be retried, if the server refuses."""
        name = chosen.name if chosen else None
        try:
            self._stream = _open_with_all_channels(name, address.rate, server)
        except SourceError as error:
            raise SourceError(f"device {name or 'default'!r}: {error}", error.retry) from error
        self.rate = self._stream.rate
        self.channels = min(address.channels or self._stream.channels, self._stream.channels)
        actual = server.called(self._stream.device)
        title = f"{actual.description} ({actual.name})" if actual else self._stream.device
        if self.channels < self._stream.channels:
            title += f", the first {self.channels} of {self._stream.channels} channels"
        self.description = f"{title}, {self.rate} Hz, {self.channels} channels, {server.server}"
        self._name = f"device {self._stream.device!r}"
        self._assembler = Assembler(self.rate, self.channels, self._name)
        self._monitor = monitor_input(self._stream.device, follows_default)

    def blocks(self) -> Iterator[Block | None]:
        """Yield blocks as the server sends them. Raises `SourceError` when the input is lost."""
        return live_blocks(self._name, self._assembler, self._monitor, self._fetch)

    def _fetch(self) -> bool:
        """Queue what has come; return whether the stream is still open."""
        fragments, now = self._stream.read(), read_clocks()
        for fragment in fragments:
            data = fragment.data
            if self.channels < self._stream.channels:
                frames = np.frombuffer(data, np.float32).reshape(-1, self._stream.channels)
                data = frames[:, : self.channels].tobytes()
            self._assembler.add(CallbackBuffer(data, fragment.frames, now, fragment.age_s, fragment.lost))
        return self._stream.is_open

    def explain_zeros(self) -> ZerosExplanation:
        """Return the likeliest reason why only zeros come."""
        return explain_zeros(self._monitor.latest)

    def close(self) -> None:
        """Leave the server."""
        self._monitor.close()
        self._stream.close()


def _open_with_all_channels(name: str | None, rate: int, server: ServerInputs) -> RecordStream:
    """Open the input of this name, or the one that the server gives by default. Raises `SourceError`."""
    expected = server.called(name or os.environ.get("PULSE_SOURCE") or server.default)
    stream = RecordStream(name, rate, expected.positions if expected else STEREO)
    actual = server.called(stream.device)
    if actual is None or actual.channels == stream.channels:
        return stream
    stream.close()  # the server records another one by default, and gave it the channels of the one expected
    return RecordStream(actual.name, rate, actual.positions)
