"""From what a driver's callback leaves to blocks: what was lost, what is stale, what is no number, and when it all was heard.

Rules of this file: no clock, no device. Facts it rests on: input overflow is flagged without saying how much was lost; a
driver, sound server or process that was stopped hands over what it had buffered in a burst, at times with an untrue age.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mertd.capture.clock import STEP_NS
from mertd.capture.instant import Instant
from mertd.capture.source import Block, Frames
from mertd.errors import SourceError

ABSURD_S = 10.0
"""A driver that claims to have buffered this much is not believed."""

UNFLAGGED_GAP_S = 0.5
"""A jump of the time at which frames were heard that is taken for lost input even if PortAudio did not say so."""

BROKEN_S = 2.0
"""A device that gives samples that are no numbers for so long is broken."""

SETTLED_S, RATE_S, RATE_OFF = 3.0, 10.0, 0.04
"""Frames are counted against time once the stream has settled, over so long; off by this share, the rate is another one."""


@dataclass(frozen=True, slots=True)
class Portion:
    """What one callback brought, at `called`. `since_heard`: seconds from the first frame at the converter to the callback."""

    data: bytes  # float32, interleaved
    frames: int
    called: Instant
    since_heard: float
    overflow: bool

    def age_ns(self, rate: int) -> int:
        """How long before the callback the first frame was heard: the last one not after it, whatever drivers say."""
        length = self.frames / rate
        return round(max(length, self.since_heard if self.since_heard < ABSURD_S else 0.0) * 1e9)


class Assembler:
    """Joins the portions of one stream."""

    def __init__(self, rate: int, channels: int, where: str) -> None:
        """`where`: the device in words."""
        self._rate, self._channels, self._where = rate, channels, where
        self._expected_ns: int | None = None  # steady time at which the next frame should have been heard
        self._called: Instant | None = None
        self._stale = False
        self._spoilt = 0  # frames of blocks in a row with something spoilt
        self._settled_ns: int | None = None
        self._counted = 0

    def blocks(self, portions: Iterable[Portion]) -> Iterator[Block]:
        """One block per stretch without a gap. Raises `SourceError` if the device is broken or runs at another rate."""
        joined: list[Portion] = []
        lost = 0
        for portion in portions:
            waited_ns, step = self._since_last(portion)
            gap = self._gap(portion)
            stale = self._is_stale(portion, gap, waited_ns)
            if (step or stale) and joined:
                yield self._block(joined, lost)
                joined, lost = [], 0
            if stale:
                self._counted = 0
                continue
            self._expected_ns = self._heard_ns(portion) + portion.frames * 1_000_000_000 // self._rate
            self._check_rate(portion, gap)
            if gap:
                if joined:
                    yield self._block(joined, lost)
                joined, lost = [], gap
            joined.append(portion)
        if joined:
            yield self._block(joined, lost)

    def _heard_ns(self, portion: Portion) -> int:
        return portion.called.steady_ns - portion.age_ns(self._rate)

    def _since_last(self, portion: Portion) -> tuple[int, bool]:
        """How long after the last callback this one came, and whether wall time has jumped meanwhile."""
        last, self._called = self._called, portion.called
        if last is None:
            return 0, False
        return portion.called.steady_ns - last.steady_ns, abs(portion.called.offset_ns - last.offset_ns) > STEP_NS

    def _gap(self, portion: Portion) -> int:
        """Frames that are missing before this portion, judged by when it was heard."""
        if self._expected_ns is None:
            return 0
        late = (self._heard_ns(portion) - self._expected_ns) / 1e9
        if not portion.overflow and late < UNFLAGGED_GAP_S:
            return 0
        return max(1 if portion.overflow else 0, round(late * self._rate))

    def _is_stale(self, portion: Portion, gap: int, waited_ns: int) -> bool:
        """Whether this was buffered while the driver, or this process, was stopped, and claims to be newer than it is.

        What was buffered and says so continues where the last portion ended: then there is no gap. Otherwise nothing is used
        until a callback had to wait for its frames again.
        """
        if self._stale:
            self._stale = waited_ns < 0.5e9 * portion.frames / self._rate
        else:
            self._stale = min(waited_ns / 1e9, gap / self._rate) >= UNFLAGGED_GAP_S
        return self._stale

    def _check_rate(self, portion: Portion, gap: int) -> None:
        now_ns = portion.called.steady_ns
        if self._settled_ns is None:
            self._settled_ns = now_ns + round(SETTLED_S * 1e9)
        if now_ns < self._settled_ns or gap or not self._counted:
            self._counted, self._counted_from = (0 if now_ns < self._settled_ns else 1), now_ns
            return
        self._counted += portion.frames
        elapsed = (now_ns - self._counted_from) / 1e9
        if elapsed >= RATE_S:
            actual, self._counted = self._counted / elapsed, 0
            if abs(actual / self._rate - 1) > RATE_OFF:
                raise SourceError(
                    f"{self._where} gives {actual:.0f} frames a second, not {self._rate}: has its rate changed?", True
                )

    def _block(self, joined: list[Portion], lost: int) -> Block:
        frames = np.frombuffer(b"".join(p.data for p in joined), np.float32).reshape(-1, self._channels)
        # All portions tell when this block began; the median is not fooled by one that was held up.
        ahead, starts = 0, []
        for portion in joined:
            age_ns = portion.age_ns(self._rate) + ahead * 1_000_000_000 // self._rate
            starts.append((portion.called.steady_ns - age_ns, age_ns, portion.called))
            ahead += portion.frames
        _, age_ns, called = sorted(starts, key=lambda start: start[0])[len(starts) // 2]
        frames, spoilt = self._numbers(frames)
        return Block(frames, called.before(age_ns), age_ns, lost, spoilt)

    def _numbers(self, frames: Frames) -> tuple[Frames, tuple[int, int] | None]:
        """The frames, with zeros from the first to the last that is not finite."""
        bad = np.flatnonzero(~np.isfinite(frames).all(axis=1))
        if not len(bad):
            self._spoilt = 0
            return frames, None
        self._spoilt += len(frames)
        if self._spoilt > BROKEN_S * self._rate:
            raise SourceError(f"{self._where} has given samples that are not numbers for {BROKEN_S:.0f} s", retry=True)
        spoilt = int(bad[0]), int(bad[-1]) + 1
        frames = frames.copy()
        frames[slice(*spoilt)] = 0
        return frames, spoilt
