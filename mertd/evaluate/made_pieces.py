"""Pieces of music made from a seed: chords, bass, melody and drums in a style; and the same piece changed.

Rules of this file: no I/O; the same seed gives the same piece.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from mertd.evaluate.midi_file import DRUMS, Note, midi_bytes

SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10), (0, 2, 4, 5, 7, 9, 10))
"""Major, minor, Dorian, Mixolydian: semitones above the tonic."""

PROGRESSIONS = ((0, 4, 5, 3), (0, 5, 3, 4), (1, 4, 0, 0), (0, 3, 0, 4), (5, 3, 0, 4), (0, 2, 3, 4), (0, 6, 3, 0), (0, 3, 6, 2))
"""Degrees of the scale on which chords stand, one a bar."""

BEATS = 4
"""Beats in a bar."""

KEYBOARDS = (0, 4, 6, 11, 16, 24, 25, 46, 48, 88)
"""General MIDI programs for chords."""

BASSES = (32, 33, 35, 38, 43, 58)
"""General MIDI programs for the bass."""

LEADS = (22, 40, 56, 64, 65, 68, 71, 73, 75, 80, 104)
"""General MIDI programs for the melody."""

KICK = 36
"""Bass drum in General MIDI."""

SNARE = 38
"""Snare drum in General MIDI."""

HAT = 42
"""Closed hi-hat in General MIDI."""


@dataclass(frozen=True)
class MadePiece:
    """A piece, and how it is played."""

    seed: int
    tonic: int  # MIDI number
    beats_a_minute: float
    programs: tuple[int, int, int]  # chords, bass, melody
    drums: bool

    def in_other_instruments(self) -> MadePiece:
        """Return the piece with another instrument for every part."""
        draw = random.Random(f"{self.seed} instruments")
        chosen = [
            draw.choice([program for program in family if program != used])
            for family, used in zip((KEYBOARDS, BASSES, LEADS), self.programs, strict=True)
        ]
        return replace(self, programs=(chosen[0], chosen[1], chosen[2]))

    def in_other_tempo(self) -> MadePiece:
        """Return the piece a fifth faster or slower."""
        return replace(self, beats_a_minute=self.beats_a_minute * random.Random(f"{self.seed} tempo").choice((0.8, 1.25)))

    def in_other_key(self) -> MadePiece:
        """Return the piece three to five semitones higher or lower."""
        return replace(self, tonic=self.tonic + random.Random(f"{self.seed} key").choice((-5, -4, -3, 3, 4, 5)))

    def midi(self, seconds: float) -> bytes:
        """Return the piece as a MIDI file that lasts at least so long."""
        bars = int(seconds * self.beats_a_minute / 60 / BEATS) + 2
        channels = dict(enumerate(self.programs))
        return midi_bytes(_notes(self, bars), channels, self.beats_a_minute)


def make_piece(seed: int) -> MadePiece:
    """Return the piece of a seed."""
    draw = random.Random(f"{seed} style")
    return MadePiece(
        seed=seed,
        tonic=draw.randint(55, 66),
        beats_a_minute=float(draw.randint(66, 150)),
        programs=(draw.choice(KEYBOARDS), draw.choice(BASSES), draw.choice(LEADS)),
        drums=draw.random() < 0.7,
    )


def _notes(piece: MadePiece, bars: int) -> list[Note]:
    """Return the notes: what they are depends on the seed alone, and is transposed and timed by the piece."""
    draw = random.Random(f"{piece.seed} notes")
    scale = draw.choice(SCALES)
    progression = draw.choice(PROGRESSIONS)
    strum = draw.choice(((0.0,), (0.0, 2.0), (0.0, 1.0, 2.0, 3.0), (0.0, 1.5, 3.0), (0.5, 1.5, 2.5, 3.5)))
    walk = draw.choice(((0.0, 2.0), (0.0, 1.0, 2.0, 3.0), (0.0, 1.5, 2.0, 3.5), (0.0,)))
    motif = [(draw.choice((0.25, 0.5, 0.5, 1.0, 1.5)), draw.randint(-3, 4), draw.random() < 0.8) for _ in range(9)]
    hats = draw.choice((0.5, 1.0, 0.25))
    notes: list[Note] = []
    for bar in range(bars):
        degree = progression[bar % len(progression)]
        at = float(bar * BEATS)
        for beat in strum:
            for third in (0, 2, 4):
                notes.append(Note(at + beat, 0.9, _pitch(piece, scale, degree + third), draw.randint(62, 80), 0))
        for beat in walk:
            step = draw.choice((0, 0, 4, 2)) if beat else 0
            notes.append(Note(at + beat, 0.8, _pitch(piece, scale, degree + step) - 24, draw.randint(78, 96), 1))
        beat = 0.0
        for length, step, sounds in motif:
            if beat >= BEATS:
                break
            if sounds:
                notes.append(Note(at + beat, 0.9 * length, _pitch(piece, scale, degree + step) + 12, draw.randint(76, 104), 2))
            beat += length
        if piece.drums:
            notes += [Note(at + beat, 0.2, KICK, 100, DRUMS) for beat in (0.0, 2.0)]
            notes += [Note(at + beat, 0.2, SNARE, 92, DRUMS) for beat in (1.0, 3.0)]
            notes += [Note(at + n * hats, 0.1, HAT, 70, DRUMS) for n in range(int(BEATS / hats))]
    return notes


def _pitch(piece: MadePiece, scale: tuple[int, ...], degree: int) -> int:
    octave, step = divmod(degree, len(scale))
    return piece.tonic + 12 * octave + scale[step]
