"""A recording stream of PulseAudio, or of PipeWire in its place, through libpulse and ctypes.

The stream has the channels of its device, in the device's order, so that the server has nothing to remix: it asks for the
channel map of the device that it expects, and with FIX_CHANNELS for that of the device that it gets, which PipeWire may ignore.
ALSA's plugin, by contrast, asks for a map of its own, and the server mixes channels by position.

Rules of this file: one thread, no callbacks; `read` lets the library work and returns what has come. Constants and structures
are those of <pulse/def.h>, <pulse/sample.h> and <pulse/channelmap.h>.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mertd.errors import SourceError

LIBRARY = "libpulse.so.0"

OPEN_TIMEOUT_S = 10.0
"""Seconds that the server has to accept the stream."""

TIMING_TIMEOUT_S = 1.0
"""Seconds to wait for the first report of the latency; without it, audio counts as captured when it came."""

STEP_US = 20_000
"""Microseconds to wait for a message of the server while the stream is being opened."""

MAX_STEPS = 1_000
"""Messages handled in one reading, so that a flood of them cannot hold it up."""

FRAGMENT_S = 0.05
"""Seconds of audio that the server sends at a time."""

USUAL_RATE = 48_000
"""Hz, assumed of a device whose rate is not known yet."""

FLOAT32 = 5 if sys.byteorder == "little" else 6
"""PA_SAMPLE_FLOAT32LE or PA_SAMPLE_FLOAT32BE."""

FRAME_VALUE_BYTES = 4
"""Bytes of one sample of one channel."""

MAX_CHANNELS = 32
"""PA_CHANNELS_MAX."""

STEREO = (1, 2)
"""PA_CHANNEL_POSITION_FRONT_LEFT and _RIGHT, assumed of a device of which nothing is known."""

NO_AUTOSPAWN = 0x1
"""PA_CONTEXT_NOAUTOSPAWN."""

INTERPOLATE_TIMING = 0x2
"""PA_STREAM_INTERPOLATE_TIMING: the latency is estimated between two reports of the server."""

AUTO_TIMING_UPDATE = 0x8
"""PA_STREAM_AUTO_TIMING_UPDATE: the server reports the latency by itself."""

NO_REMIX_CHANNELS = 0x20
"""PA_STREAM_NO_REMIX_CHANNELS: channels are not mixed into each other by position."""

FIX_RATE = 0x80
"""PA_STREAM_FIX_RATE: the sample rate is that of the device."""

FIX_CHANNELS = 0x100
"""PA_STREAM_FIX_CHANNELS: the number of channels, their order and their positions are those of the device."""

DONT_MOVE = 0x200
"""PA_STREAM_DONT_MOVE: the stream ends with its device and is not moved to another one."""

ADJUST_LATENCY = 0x2000
"""PA_STREAM_ADJUST_LATENCY: the device, too, works in fragments of the length that is asked for."""

READY = {"context": 4, "stream": 2}
"""PA_CONTEXT_READY and PA_STREAM_READY; greater states are final."""

UNSET = 0xFFFFFFFF
"""(uint32_t) -1: the server chooses."""

FAILED_SIZE = ctypes.c_size_t(-1).value
"""What `pa_stream_readable_size` returns if it fails."""


class _SampleSpec(ctypes.Structure):
    _fields_ = [("format", ctypes.c_int), ("rate", ctypes.c_uint32), ("channels", ctypes.c_uint8)]


class _ChannelMap(ctypes.Structure):
    _fields_ = [("channels", ctypes.c_uint8), ("map", ctypes.c_int * MAX_CHANNELS)]


class _BufferAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("maxlength", "tlength", "prebuf", "minreq", "fragsize")]


_POINTERS = (
    *("pa_mainloop_new", "pa_mainloop_get_api", "pa_context_new", "pa_stream_new"),
    *("pa_stream_get_sample_spec",),
)
"""Functions that return pointers, which ctypes would cut to 32 bits."""


def load_library() -> Any:
    """Return libpulse. Raises `SourceError` where it is missing."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise SourceError(f"{LIBRARY} cannot be loaded ({error}); on Debian: apt install libpulse0") from error
    for name in _POINTERS:
        getattr(library, name).restype = ctypes.c_void_p
    library.pa_strerror.restype = library.pa_stream_get_device_name.restype = ctypes.c_char_p
    library.pa_stream_readable_size.restype = ctypes.c_size_t
    return library


@dataclass(frozen=True)
class Fragment:
    """Consecutive frames that the server has sent."""

    data: bytes  # float32, interleaved
    frames: int
    age_s: float  # since the first frame was captured
    lost: bool  # the server had to leave out frames before it


class RecordStream:
    """An open recording stream.

    Attributes:
        device: the name of the source that is recorded.
        rate: Hz.
        channels: those of the source, in its order.
    """

    def __init__(self, device: str | None, rate: int, positions: Sequence[int] = STEREO) -> None:
        """`device`: its name; None for the default one. `rate`: Hz; 0 for its own. `positions`: of the channels it should have.

        Raises `SourceError`, to be retried.
        """
        self._library = load_library()
        self._loop = ctypes.c_void_p(self._library.pa_mainloop_new())
        self._context = self._stream = ctypes.c_void_p()
        try:
            self._connect()
            self._record(device, rate, positions)
        except SourceError:
            self.close()
            raise
        spec = _SampleSpec.from_address(self._library.pa_stream_get_sample_spec(self._stream))
        self.rate = int(spec.rate)
        self.channels = int(spec.channels)
        self.device = (self._library.pa_stream_get_device_name(self._stream) or b"").decode(errors="replace")
        deadline = time.monotonic() + TIMING_TIMEOUT_S
        while self._latency_s() is None and time.monotonic() < deadline:
            self._step(STEP_US)

    @property
    def is_open(self) -> bool:
        """Whether the server is there and still records the stream."""
        return self._state("context") == READY["context"] and self._state("stream") == READY["stream"]

    def read(self) -> list[Fragment]:
        """Return what has come since the last reading, without waiting; nothing once the stream is not open any more."""
        for _ in range(MAX_STEPS):
            if self._step(0) <= 0:
                break
        pieces: list[tuple[list[bytes], bool]] = [([], False)]
        data, size = ctypes.c_void_p(), ctypes.c_size_t()
        while self.is_open and self._library.pa_stream_readable_size(self._stream) not in (0, FAILED_SIZE):
            if self._library.pa_stream_peek(self._stream, ctypes.byref(data), ctypes.byref(size)) < 0 or not size.value:
                break
            if data.value:
                pieces[-1][0].append(ctypes.string_at(data.value, size.value))
            else:  # a hole
                pieces.append(([], True))
            self._library.pa_stream_drop(self._stream)
        return self._dated([(b"".join(parts), lost) for parts, lost in pieces])

    def close(self) -> None:
        """Leave the server."""
        if self._stream:
            self._library.pa_stream_disconnect(self._stream)
            self._library.pa_stream_unref(self._stream)
        if self._context:
            self._library.pa_context_disconnect(self._context)
            self._library.pa_context_unref(self._context)
        if self._loop:
            self._library.pa_mainloop_free(self._loop)
        self._loop = self._context = self._stream = ctypes.c_void_p()

    def _connect(self) -> None:
        api = ctypes.c_void_p(self._library.pa_mainloop_get_api(self._loop))
        self._context = ctypes.c_void_p(self._library.pa_context_new(api, b"mertd"))
        self._check(self._library.pa_context_connect(self._context, None, NO_AUTOSPAWN, None))
        self._await("context")

    def _record(self, device: str | None, rate: int, positions: Sequence[int]) -> None:
        wanted = _SampleSpec(FLOAT32, rate or USUAL_RATE, len(positions))
        order = _ChannelMap(len(positions), (ctypes.c_int * MAX_CHANNELS)(*positions))
        made = self._library.pa_stream_new(self._context, b"capture", ctypes.byref(wanted), ctypes.byref(order))
        if not made:
            self._check(-1)
        self._stream = ctypes.c_void_p(made)
        fragment = round(wanted.rate * FRAGMENT_S) * len(positions) * FRAME_VALUE_BYTES
        buffers = _BufferAttributes(UNSET, UNSET, UNSET, UNSET, fragment)
        flags = INTERPOLATE_TIMING | AUTO_TIMING_UPDATE | NO_REMIX_CHANNELS | FIX_CHANNELS | ADJUST_LATENCY
        flags |= (0 if rate else FIX_RATE) | (DONT_MOVE if device else 0)  # what is named is heard, or nothing
        name = device.encode() if device else None
        self._check(self._library.pa_stream_connect_record(self._stream, name, ctypes.byref(buffers), flags))
        self._await("stream")

    def _await(self, what: str) -> None:
        """Wait until the context or the stream is ready. Raises `SourceError`."""
        deadline = time.monotonic() + OPEN_TIMEOUT_S
        while (state := self._state(what)) != READY[what]:
            if state > READY[what]:
                self._check(-1)
            if time.monotonic() > deadline:
                raise SourceError(f"the sound server has not answered for {OPEN_TIMEOUT_S:.0f} s", retry=True)
            self._step(STEP_US)

    def _state(self, what: str) -> int:
        pointer = self._context if what == "context" else self._stream
        return int(getattr(self._library, f"pa_{what}_get_state")(pointer)) if pointer else 0

    def _step(self, timeout_us: int) -> int:
        """Handle messages of the server, waiting for the first one; return how many there were, below 0 if it failed."""
        if self._library.pa_mainloop_prepare(self._loop, timeout_us) < 0 or self._library.pa_mainloop_poll(self._loop) < 0:
            return -1
        return int(self._library.pa_mainloop_dispatch(self._loop))

    def _check(self, result: int) -> None:
        if result < 0:
            reason = self._library.pa_strerror(self._library.pa_context_errno(self._context)) or b"unknown error"
            raise SourceError(f"the sound server refuses: {reason.decode(errors='replace')}", retry=True)

    def _latency_s(self) -> float | None:
        """Return how long ago the next frame to be read was captured; below 0 if an output has still to play it."""
        latency, negative = ctypes.c_uint64(), ctypes.c_int()
        if self._library.pa_stream_get_latency(self._stream, ctypes.byref(latency), ctypes.byref(negative)) < 0:
            return None
        return (-1 if negative.value else 1) * latency.value / 1e6

    def _dated(self, pieces: list[tuple[bytes, bool]]) -> list[Fragment]:
        """Return the pieces with their ages: the latency is that of what follows the last of them."""
        frame_bytes = self.channels * FRAME_VALUE_BYTES
        age_s = self._latency_s() or 0.0
        found = []
        for data, lost in reversed(pieces):
            frames = len(data) // frame_bytes
            age_s += frames / self.rate
            if frames:
                found.append(Fragment(data, frames, age_s, lost))
        return found[::-1]
