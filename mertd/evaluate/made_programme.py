"""A programme of made pieces, one after the other, whose joins are known: hard cuts and fades by turns.

Rules of this file: the same seed gives the same programme.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mertd.defaults import SAMPLE_RATE
from mertd.evaluate.made_pieces import make_piece
from mertd.evaluate.synthesiser import render

FADE_S = 5.0
"""Seconds during which one piece fades into the next."""

RMS = 0.06
"""Level of every piece, so that joins are no steps in loudness alone."""


@dataclass(frozen=True)
class MadeProgramme:
    """The sound, mono at SAMPLE_RATE, and the middles of its joins in seconds."""

    samples: NDArray[np.float32]
    cuts: tuple[float, ...]
    fades: tuple[float, ...]

    @property
    def joins(self) -> tuple[float, ...]:
        """All joins, in order."""
        return tuple(sorted(self.cuts + self.fades))


def make_programme(
    pieces: int, shortest_s: float, longest_s: float, soundfont: Path, progress: Callable[[str], object] = lambda _: None
) -> MadeProgramme:
    """Return a programme of so many pieces, each between two lengths, in seconds."""
    draw = random.Random("programme")
    whole = np.zeros(0, np.float32)
    joins: tuple[list[float], list[float]] = ([], [])
    for number in range(pieces):
        progress(f"piece {number + 1} of {pieces}")
        fades = number % 2 == 0
        length = draw.uniform(shortest_s, longest_s)
        sound = render(make_piece(number).midi(length + FADE_S), length + FADE_S, soundfont)
        sound *= np.float32(RMS / np.sqrt(np.square(sound, dtype=np.float64).mean()))
        overlap = round(FADE_S * SAMPLE_RATE) if fades and number else 0
        if number:
            joins[fades].append((len(whole) - overlap / 2) / SAMPLE_RATE)
        ramp = np.linspace(0, np.pi / 2, overlap, dtype=np.float32)
        mixed = whole[len(whole) - overlap :] * np.cos(ramp) + sound[:overlap] * np.sin(ramp)
        whole = np.concatenate([whole[: len(whole) - overlap], mixed, sound[overlap : round(length * SAMPLE_RATE)]])
    return MadeProgramme(whole, tuple(joins[False]), tuple(joins[True]))
