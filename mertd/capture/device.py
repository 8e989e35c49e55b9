"""`device:` sources: a microphone, line input or loopback through PortAudio.

Facts this rests on: the device list is frozen when PortAudio starts, so a lost device is found again only by a new process;
input overflow is flagged without saying how much was lost; some systems never say that a device has died.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mertd.capture.address import Address
from mertd.capture.source import BLOCK_S, Block
from mertd.errors import SourceError, did_you_mean

FIRST_BLOCK_S, STALL_S = 15.0, 5.0
"""Silence of the driver, not of the room, after which a device counts as dead: at the start, and later."""

LATENCY_S = 0.2
"""Asked of PortAudio: a window of 30 s does not mind, and 20 callbacks a second cost a fifth of what 115 do."""

ABSURD_S = 10.0
"""A driver that claims to have buffered this much is not believed."""

UNFLAGGED_GAP_NS = 500_000_000
"""A jump of the callback's time that is taken for lost input even if PortAudio did not say so."""


@dataclass(frozen=True)
class Device:
    """One input device as PortAudio lists it."""

    name: str
    host: str
    channels: int
    rate: int
    default: bool
    index: int


def portaudio() -> Any:
    """The sounddevice module. Raises `SourceError` where PortAudio is missing or cannot start."""
    try:
        import sounddevice
    except OSError as error:
        raise SourceError(
            f"PortAudio is not installed ({error}); on Debian: apt install libportaudio2 libasound2-plugins"
        ) from error
    return sounddevice


def devices() -> list[Device]:
    """Every input device, the default one first."""
    sounddevice = portaudio()
    hosts = sounddevice.query_hostapis()
    default = sounddevice.default.device[0]
    found = [
        Device(
            name=str(info["name"]),
            host=str(hosts[info["hostapi"]]["name"]),
            channels=int(info["max_input_channels"]),
            rate=int(info["default_samplerate"]),
            default=index == default,
            index=index,
        )
        for index, info in enumerate(sounddevice.query_devices())
        if info["max_input_channels"] > 0
    ]
    return sorted(found, key=lambda device: not device.default)


def resolve(name: str, found: list[Device]) -> Device:
    """The input device called `name`, or whose name alone contains it; the default one for an empty name.

    Raises `SourceError`, which lists the near matches. It may be retried: a USB device may come.
    """
    if not found:
        raise SourceError("no input device; `mertd devices` lists them, and file:, pipe: and synth: need none", retry=True)
    if not name:
        return found[0]
    exact = [d for d in found if d.name == name] or [d for d in found if d.name.lower() == name.lower()]
    partial = [d for d in found if name.lower() in d.name.lower()]
    if exact or len(partial) == 1:
        return (exact or partial)[0]
    names = [d.name for d in found]
    if partial:
        raise SourceError(f"{name!r} is the name of several input devices: {', '.join(repr(d.name) for d in partial)}")
    hint = did_you_mean(name, names) or f"; there are {', '.join(map(repr, names[:8]))}"
    raise SourceError(f"no input device {name!r}{hint} (`mertd devices` lists all)", retry=True)


class DeviceSource:
    """An open input device at its native rate."""

    reopens = False

    def __init__(self, address: Address) -> None:
        """Raises `SourceError` if the device is not there or refuses."""
        sounddevice = portaudio()
        self._error = sounddevice.PortAudioError
        try:
            device = resolve(address.target, devices())
            self.rate = address.rate or device.rate
            wanted = max(2, int(address.mix)) if address.mix.isdecimal() else 2
            self.channels = min(address.channels or wanted, device.channels)
            self._where = f"device {device.name!r}"
            self._queue: deque[_Portion] = deque()
            self._finished = False
            self._stream = sounddevice.RawInputStream(
                device=device.index,
                samplerate=self.rate,
                channels=self.channels,
                dtype="float32",
                blocksize=0,
                latency=LATENCY_S,
                callback=self._callback,
                finished_callback=self._on_finished,
            )
            self._stream.start()
        except self._error as error:
            raise SourceError(f"device {address.target or 'default'!r}: {_text(error)}", retry=True) from error
        version = sounddevice.get_portaudio_version()[1].split(",")[0]
        self.description = f"{device.name} ({device.host}), {self.rate} Hz, {self.channels} channels, {version}"
        self._expected_ns: int | None = None

    def _callback(self, data: Any, frames: int, times: Any, status: Any) -> None:
        """Runs in PortAudio's thread: copy and return."""
        since_heard = times.currentTime - times.inputBufferAdcTime
        now = (time.time_ns(), time.monotonic_ns())
        self._queue.append(_Portion(bytes(data), frames, *now, since_heard, bool(status.input_overflow)))

    def _on_finished(self) -> None:
        self._finished = True

    def blocks(self) -> Iterator[Block | None]:
        last, patience = time.monotonic(), FIRST_BLOCK_S
        while True:
            time.sleep(BLOCK_S)
            if not self._queue:
                if self._finished or not self._stream.active:
                    raise SourceError(f"{self._where} was lost", retry=True)
                if time.monotonic() - last > patience:
                    raise SourceError(f"{self._where} has given nothing for {patience:.0f} s", retry=True)
                yield None
                continue
            last, patience = time.monotonic(), STALL_S
            yield from self._drain()

    def _drain(self) -> Iterator[Block]:
        """What the callback has left, joined into one block per stretch without a gap."""
        joined: list[_Portion] = []
        lost = 0
        for _ in range(len(self._queue)):
            portion = self._queue.popleft()
            gap = self._gap(portion)
            if gap and joined:
                yield self._block(joined, lost)
                joined = []
            if gap:
                lost = gap
            joined.append(portion)
        if joined:
            yield self._block(joined, lost)

    def _gap(self, portion: _Portion) -> int:
        """Frames that are missing before this portion, judged by when it was heard: not by wall time, which may be set."""
        heard, expected = portion.monotonic_ns - portion.age_ns(self.rate), self._expected_ns
        self._expected_ns = heard + portion.frames * 1_000_000_000 // self.rate
        if expected is None:
            return 0
        late = heard - expected
        if not portion.overflow and late < UNFLAGGED_GAP_NS:
            return 0
        return max(1 if portion.overflow else 0, round(late * self.rate / 1e9))

    def _block(self, joined: list[_Portion], lost: int) -> Block:
        frames = np.frombuffer(b"".join(p.data for p in joined), np.float32).reshape(-1, self.channels)
        # All portions tell when this block began; the median is not fooled by one that was held up.
        ahead, starts = 0, []
        for portion in joined:
            starts.append(portion.heard_ns(self.rate) - ahead * 1_000_000_000 // self.rate)
            ahead += portion.frames
        return Block(np.nan_to_num(frames, posinf=0, neginf=0), sorted(starts)[len(starts) // 2], lost)

    def close(self) -> None:
        """Let go of the device. May hang on macOS: the supervisor then kills the process."""
        self._stream.abort(ignore_errors=True)
        self._stream.close(ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Portion:
    data: bytes
    frames: int
    now_ns: int  # Unix time of the callback
    monotonic_ns: int
    since_heard: float  # seconds from the first frame at the converter to the callback
    overflow: bool

    def heard_ns(self, rate: int) -> int:
        """Unix time of the first frame. The last one cannot have been heard after it was handed over, whatever drivers say."""
        return self.now_ns - self.age_ns(rate)

    def age_ns(self, rate: int) -> int:
        """How long before the callback the first frame was heard."""
        length = self.frames / rate
        return round(max(length, self.since_heard if self.since_heard < ABSURD_S else 0.0) * 1e9)


def _text(error: Exception) -> str:
    arguments: Mapping[int, object] = dict(enumerate(error.args))
    return str(arguments.get(0, error)).splitlines()[0]
