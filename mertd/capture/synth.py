"""`synth:` sources: sound from arithmetic, for demos and tests. Every sample is a function of its index alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from mertd.capture.address import Address
from mertd.capture.limits import block_frames
from mertd.capture.source import Block, Pacer, idle

_ROOTS = 440.0 * 2 ** (np.array([-12, -16, -9, -14, -12, -7, -5, -4]) / 12)  # A F C G A D E F, around 220 Hz
_THIRDS = 2 ** (np.array([3, 4, 4, 4, 3, 3, 4, 4]) / 12)  # minor or major
_STEPS = np.array([0, 4, 7, 12, 11, 7, 2, 4])  # semitones of the melody over the root
_BEAT_S, _BEATS_PER_CHORD = 0.5, 8


def chords(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Eight chords of four seconds each, with bass, arpeggio and a tick on every beat. `t` in seconds."""
    beat = np.floor(t / _BEAT_S).astype(np.int64)
    within = t - beat * _BEAT_S
    chord = beat // _BEATS_PER_CHORD % len(_ROOTS)
    root, fade = _ROOTS[chord], np.minimum(1, within / 0.005)
    phase = 2 * np.pi * t
    pad = np.sin(phase * root) + np.sin(phase * root * _THIRDS[chord]) + np.sin(phase * root * 1.5)
    bass = np.sin(phase * root / 2) * np.exp(-2 * within)
    note = root * 2 ** (1 + _STEPS[beat % len(_STEPS)] / 12)
    lead = (np.sin(phase * note) + 0.5 * np.sin(2 * phase * note)) * np.exp(-6 * within)
    tick = np.sin(2 * np.pi * 6000 * within) * np.exp(-80 * within)
    return np.asarray(fade * (0.07 * pad + 0.2 * bass + 0.15 * lead + 0.1 * tick))


def tone(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """440 Hz at -12 dBFS."""
    return 0.25 * np.sin(2 * np.pi * 440 * t)


def noise(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """White noise at about -20 dBFS, from a hash of the time (a fixed-seed generator could not start anywhere)."""
    bits = np.round(t * 768_000).astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64, Steele et al. 2014
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    return ((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53 - 0.5) * 0.35


def silence(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Digital silence."""
    return np.zeros_like(t)


_VOICES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "chords": chords,
    "tone": tone,
    "noise": noise,
    "silence": silence,
}


class SynthSource:
    """A synthesised piece, the same on every channel."""

    reopens = False
    why_zeros = None

    def __init__(self, address: Address, realtime: bool) -> None:
        self._voice, self._realtime = _VOICES[address.target], realtime
        self.rate, self.channels = address.rate or 48_000, address.channels or 2
        self._frames = round(address.seconds * self.rate) if address.seconds else None
        self.description = f"synthesised {address.target}, {self.rate} Hz, {self.channels} channels"

    def blocks(self) -> Iterator[Block | None]:
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
        """Nothing is held."""
