"""Joins the buffers of a driver's callback into blocks, and finds out what was lost, what is stale and when it was captured.

Rules of this file: no clock, no device. It rests on these facts: a driver flags an input overflow without saying how much was
lost; a driver, sound server or process that was suspended delivers what it had buffered in a burst, sometimes with a wrong age.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mertd.capture.clock import MIN_STEP_NS
from mertd.capture.clock_pair import ClockPair
from mertd.capture.source import Block, Frames
from mertd.errors import SourceError

MAX_LATENCY_S = 10.0
"""Seconds of latency that a driver can report; more is not believed."""

UNFLAGGED_GAP_S = 0.5
"""Seconds by which capture times may jump before frames count as lost although the driver reported no overflow."""

MAX_NONFINITE_S = 2.0
"""Seconds of blocks with NaN or infinities in a row after which the device counts as broken."""

SETTLE_S = 3.0
"""Seconds after the first callback before the frame rate is measured."""

RATE_WINDOW_S = 10.0
"""Seconds over which the frame rate is measured."""

RATE_TOLERANCE = 0.04
"""Relative deviation of the measured from the nominal frame rate above which the device has changed its rate."""


@dataclass(frozen=True, slots=True)
class CallbackBuffer:
    """What one callback delivered."""

    data: bytes  # float32, interleaved
    frames: int
    called_at: ClockPair
    latency_s: float  # from the first frame at the converter to the callback, as the driver reports it
    overflow: bool  # frames were lost before this buffer, says the driver

    def age_ns(self, rate: int) -> int:
        """Return how long before the callback the first frame was captured: at least the length of the buffer."""
        length_s = self.frames / rate
        return round(max(length_s, self.latency_s if self.latency_s < MAX_LATENCY_S else 0.0) * 1e9)


class Assembler:
    """Queues the buffers of one stream and joins them into blocks. Only `add` may be called from the driver's thread."""

    def __init__(self, rate: int, channels: int, device: str) -> None:
        """`rate`: Hz. `device`: its name in error messages."""
        self._rate = rate
        self._channels = channels
        self._device = device
        self._queue: deque[CallbackBuffer] = deque()
        self._expected_ns: int | None = None  # steady time at which the next frame should have been captured
        self._last_call: ClockPair | None = None
        self._discarding = False
        self._nonfinite_frames = 0  # in blocks in a row that were not finite throughout
        self._frame_rate = _FrameRateCheck(rate, device)

    def add(self, buffer: CallbackBuffer) -> None:
        """Queue a buffer; safe in the driver's thread."""
        self._queue.append(buffer)

    @property
    def has_buffers(self) -> bool:
        """Whether `blocks` has something to work on."""
        return bool(self._queue)

    def blocks(self) -> Iterator[Block]:
        """Yield the queued buffers as one block per stretch without a gap.

        Raises `SourceError` if the device is broken or runs at another rate.
        """
        yield from self._join([self._queue.popleft() for _ in range(len(self._queue))])

    def _join(self, buffers: Iterable[CallbackBuffer]) -> Iterator[Block]:
        joined: list[CallbackBuffer] = []
        lost = 0
        for buffer in buffers:
            waited_ns, stepped = self._since_last_call(buffer)
            gap = self._gap(buffer)
            stale = self._is_stale(buffer, gap, waited_ns)
            if (stepped or stale) and joined:
                yield self._block(joined, lost)
                joined, lost = [], 0
            if stale:
                self._frame_rate.restart()
                continue
            self._expected_ns = self._captured_ns(buffer) + buffer.frames * 1_000_000_000 // self._rate
            self._frame_rate.check(buffer, gap)
            if gap:
                if joined:
                    yield self._block(joined, lost)
                joined, lost = [], gap
            joined.append(buffer)
        if joined:
            yield self._block(joined, lost)

    def _captured_ns(self, buffer: CallbackBuffer) -> int:
        return buffer.called_at.steady_ns - buffer.age_ns(self._rate)

    def _since_last_call(self, buffer: CallbackBuffer) -> tuple[int, bool]:
        """Return the nanoseconds since the last callback, and whether wall time has jumped meanwhile."""
        last, self._last_call = self._last_call, buffer.called_at
        if last is None:
            return 0, False
        return buffer.called_at.steady_ns - last.steady_ns, abs(buffer.called_at.offset_ns - last.offset_ns) > MIN_STEP_NS

    def _gap(self, buffer: CallbackBuffer) -> int:
        """Return the frames missing before this buffer, estimated from the time at which it was captured."""
        if self._expected_ns is None:
            return 0
        late_s = (self._captured_ns(buffer) - self._expected_ns) / 1e9
        if not buffer.overflow and late_s < UNFLAGGED_GAP_S:
            return 0
        return max(1 if buffer.overflow else 0, round(late_s * self._rate))

    def _is_stale(self, buffer: CallbackBuffer, gap: int, waited_ns: int) -> bool:
        """Return whether this was buffered while the driver or this process was suspended, and claims to be newer than it is.

        Audio that was buffered and reports its true age continues where the last buffer ended: then there is no gap. Otherwise
        buffers are discarded until a callback had to wait for its frames again.
        """
        if self._discarding:
            self._discarding = waited_ns < 0.5e9 * buffer.frames / self._rate
        else:
            self._discarding = min(waited_ns / 1e9, gap / self._rate) >= UNFLAGGED_GAP_S
        return self._discarding

    def _block(self, joined: list[CallbackBuffer], lost: int) -> Block:
        frames = np.frombuffer(b"".join(buffer.data for buffer in joined), np.float32).reshape(-1, self._channels)
        # Each buffer gives an estimate of when this block began; one that was delayed does not move their median.
        ahead = 0
        starts: list[tuple[int, ClockPair]] = []
        for buffer in joined:
            starts.append((buffer.age_ns(self._rate) + ahead * 1_000_000_000 // self._rate, buffer.called_at))
            ahead += buffer.frames
        starts.sort(key=lambda start: start[1].steady_ns - start[0])
        age_ns, called_at = starts[len(starts) // 2]
        frames, nonfinite = self._zero_nonfinite(frames)
        return Block(frames, called_at.earlier(age_ns), age_ns, lost, nonfinite)

    def _zero_nonfinite(self, frames: Frames) -> tuple[Frames, tuple[int, int] | None]:
        """Return the frames with zeros from the first to the last that is not finite, and those bounds."""
        bad = np.flatnonzero(~np.isfinite(frames).all(axis=1))
        if not len(bad):
            self._nonfinite_frames = 0
            return frames, None
        self._nonfinite_frames += len(frames)
        if self._nonfinite_frames > MAX_NONFINITE_S * self._rate:
            raise SourceError(f"{self._device} has delivered NaN or infinities for {MAX_NONFINITE_S:.0f} s", retry=True)
        start, end = int(bad[0]), int(bad[-1]) + 1
        frames = frames.copy()
        frames[start:end] = 0
        return frames, (start, end)


class _FrameRateCheck:
    """Compares the measured frame rate with the nominal one over RATE_WINDOW_S, after SETTLE_S."""

    def __init__(self, rate: int, device: str) -> None:
        self._rate = rate
        self._device = device
        self._settled_ns: int | None = None
        self._frames = 0  # counted since `_since_ns`; 0: the count has not begun
        self._since_ns = 0

    def restart(self) -> None:
        """Count anew from the next buffer on."""
        self._frames = 0

    def check(self, buffer: CallbackBuffer, gap: int) -> None:
        """Count a buffer. Raises `SourceError` if the rate is off by more than RATE_TOLERANCE."""
        now_ns = buffer.called_at.steady_ns
        if self._settled_ns is None:
            self._settled_ns = now_ns + round(SETTLE_S * 1e9)
        if now_ns < self._settled_ns or gap or not self._frames:
            self._frames = 0 if now_ns < self._settled_ns else 1
            self._since_ns = now_ns
            return
        self._frames += buffer.frames
        elapsed_s = (now_ns - self._since_ns) / 1e9
        if elapsed_s >= RATE_WINDOW_S:
            actual, self._frames = self._frames / elapsed_s, 0
            if abs(actual / self._rate - 1) > RATE_TOLERANCE:
                raise SourceError(
                    f"{self._device} delivers {actual:.0f} frames a second, not {self._rate}; has its rate changed?", retry=True
                )
