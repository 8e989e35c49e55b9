"""`synth:` sources: computed sound, for demos and tests. Every sample is a function of its index alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from mertd.capture.limits import block_frames
from mertd.capture.reports import CaptureSettings
from mertd.capture.source import COMPLETE, Block, Pacer, idle

Samples = NDArray[np.float64]

ROOTS_HZ = 440.0 * 2 ** (np.array([-12, -16, -9, -14, -12, -7, -5, -4]) / 12)
"""Roots of the chords: A F C G A D E F, around 220 Hz."""

THIRDS = 2 ** (np.array([3, 4, 4, 4, 3, 3, 4, 4]) / 12)
"""Ratio of each chord's third to its root: minor or major."""

MELODY_SEMITONES = np.array([0, 4, 7, 12, 11, 7, 2, 4])
"""Notes of the melody over the root, one a beat."""

BEAT_S = 0.5
"""Seconds a beat."""

BEATS_PER_CHORD = 8
"""Beats before the next chord."""


def chords(t: Samples) -> Samples:
    """Return eight chords of four seconds each, with bass, arpeggio and a tick on every beat. `t`: seconds."""
    beat = np.floor(t / BEAT_S).astype(np.int64)
    within = t - beat * BEAT_S
    chord = beat // BEATS_PER_CHORD % len(ROOTS_HZ)
    root = ROOTS_HZ[chord]
    fade = np.minimum(1, within / 0.005)
    phase = 2 * np.pi * t
    pad = np.sin(phase * root) + np.sin(phase * root * THIRDS[chord]) + np.sin(phase * root * 1.5)
    bass = np.sin(phase * root / 2) * np.exp(-2 * within)
    note = root * 2 ** (1 + MELODY_SEMITONES[beat % len(MELODY_SEMITONES)] / 12)
    lead = (np.sin(phase * note) + 0.5 * np.sin(2 * phase * note)) * np.exp(-6 * within)
    tick = np.sin(2 * np.pi * 6000 * within) * np.exp(-80 * within)
    return np.asarray(fade * (0.07 * pad + 0.2 * bass + 0.15 * lead + 0.1 * tick))


def tone(t: Samples) -> Samples:
    """Return 440 Hz at -12 dBFS."""
    return 0.25 * np.sin(2 * np.pi * 440 * t)


def noise(t: Samples) -> Samples:
    """Return white noise at about -20 dBFS, from a hash of the time (a generator with a seed could not start anywhere)."""
    bits = np.round(t * 768_000).astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64, Steele et al. 2014
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    return ((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53 - 0.5) * 0.35


def silence(t: Samples) -> Samples:
    """Return digital silence."""
    return np.zeros_like(t)


VOICES: dict[str, Callable[[Samples], Samples]] = {
    "chords": chords,
    "tone": tone,
    "noise": noise,
    "silence": silence,
}
"""The functions behind `source_kinds.SYNTHS`."""


class SynthSource:
    """A computed piece, the same on every channel."""

    reopens = False
    explain_zeros = None
    end_report = COMPLETE

    def __init__(self, settings: CaptureSettings) -> None:
        address = settings.address
        self._voice = VOICES[address.target]
        self._realtime = settings.realtime
        self.rate = address.rate or 48_000
        self.channels = address.channels or 2
        self._frames = round(address.seconds * self.rate) if address.seconds else None
        self.description = f"synthesised {address.target}, {self.rate} Hz, {self.channels} channels"

    def blocks(self) -> Iterator[Block | None]:
        """Yield blocks, at the pace of the wall clock in real time."""
        size = block_frames(self.rate, self.channels, self._realtime)
        pacer, done = Pacer(self.rate), 0
        while self._frames is None or done < self._frames:
            count = size if self._frames is None else min(size, self._frames - done)
            mono = self._voice(np.arange(done, done + count) / self.rate).astype(np.float32)
            done += count
            while self._realtime and (wait := pacer.wait(done)) > 0:
                yield from idle(wait)
            yield Block(np.repeat(mono[:, None], self.channels, axis=1))

    def close(self) -> None:
        """Do nothing: nothing is held."""


def open_source(settings: CaptureSettings) -> SynthSource:
    """Open a `synth:` source."""
    return SynthSource(settings)
