"""From a source's frames to 24 kHz mono: mixing, then resampling.

Both are exact streams: however the input is cut into blocks, the concatenated output is the same, bit for bit.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import soxr
from numpy.typing import NDArray

from mertd.capture.source import Frames
from mertd.defaults import SAMPLE_RATE
from mertd.errors import SourceError

ACTIVE_DBFS = -70.0
ACTIVE_BLOCK_S, ACTIVE_HOLD = 0.1, 30
"""`mix=active` judges channels by blocks of 0.1 s, and trusts a channel for 30 blocks after it last carried signal."""

Mono = NDArray[np.float32]


class Pipeline:
    """One stream's mixing and resampling, from `channels` at `rate` Hz to mono at 24 kHz."""

    def __init__(self, rate: int, channels: int, mix: str) -> None:
        """`mix`: `mean`, `active`, or a channel number from 1. Raises `SourceError` if the source has no such channel."""
        if mix.isdecimal() and int(mix) > channels:
            raise SourceError(f"mix={mix}: the source has only {channels} channel{'s' if channels > 1 else ''}")
        self._mix, self._rate = mix, rate
        self._activity = _Activity(rate, channels) if mix == "active" else None
        self._resampler = (
            soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ") if rate != SAMPLE_RATE else None
        )

    def feed(self, frames: Frames) -> Mono:
        """Frames (n, channels) in, the samples (m,) that are ready out; m varies."""
        mono = self._mono(frames)
        return mono if self._resampler is None else np.asarray(self._resampler.resample_chunk(mono), np.float32)

    def flush(self) -> Mono:
        """The last samples, when no more frames will come."""
        empty = np.zeros(0, np.float32)
        return empty if self._resampler is None else np.asarray(self._resampler.resample_chunk(empty, last=True), np.float32)

    def to_output(self, frames: int) -> float:
        """Output samples that stand for the first `frames` input frames: the resampler delays nothing."""
        return frames * SAMPLE_RATE / self._rate

    def _mono(self, frames: Frames) -> Mono:
        if self._activity is not None:
            return self._activity.mix(frames)
        if self._mix != "mean":
            return np.ascontiguousarray(frames[:, int(self._mix) - 1])
        return _mean(frames)


class _Activity:
    """Mean of the channels that carry signal, so that a dead one does not cost 6 dB. The judgement follows by one block."""

    def __init__(self, rate: int, channels: int) -> None:
        self._size = max(1, round(rate * ACTIVE_BLOCK_S))
        self._recent: deque[NDArray[np.bool_]] = deque(maxlen=ACTIVE_HOLD)
        self._block = np.zeros((self._size, channels), np.float32)
        self._filled = 0
        self._active = np.ones(channels, np.bool_)

    def mix(self, frames: Frames) -> Mono:
        parts = []
        while len(frames):
            now = frames[: self._size - self._filled]
            parts.append(_mean(now[:, self._active]))
            self._block[self._filled : self._filled + len(now)] = now
            self._filled += len(now)
            if self._filled == self._size:
                self._judge()
            frames = frames[len(now) :]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def _judge(self) -> None:
        power = np.square(self._block, dtype=np.float64).mean(axis=0)
        self._recent.append(power > 10 ** (ACTIVE_DBFS / 10))
        active = np.any(self._recent, axis=0)
        self._active = active if active.any() else np.ones_like(active)
        self._filled = 0


def _mean(frames: Frames) -> Mono:
    """Mean over channels, summed one channel after the other so that the rounding never depends on the block's size."""
    total = frames[:, 0].copy()
    for channel in range(1, frames.shape[1]):
        total += frames[:, channel]
    return total / np.float32(frames.shape[1])
