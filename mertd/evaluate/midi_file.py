"""Standard MIDI files, written byte by byte: format 0, one track.

Rules of this file: no I/O; the same notes give the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

TICKS = 480
"""Ticks in a beat."""

DRUMS = 9
"""Channel of the drums in General MIDI, counted from 0."""


@dataclass(frozen=True)
class Note:
    """One note. Times in beats from the beginning."""

    start: float
    length: float
    pitch: int  # MIDI number, 60 is middle C; for drums the instrument
    velocity: int  # 1 to 127
    channel: int  # 0 to 15


def midi_bytes(notes: Iterable[Note], programs: dict[int, int], beats_a_minute: float) -> bytes:
    """Return a MIDI file. `programs`: channel -> General MIDI program, 0 to 127."""
    events: list[tuple[int, int, bytes]] = [(0, 0, b"\xff\x51\x03" + struct.pack(">I", round(60e6 / beats_a_minute))[1:])]
    events += [(0, 1, bytes([0xC0 | channel, program])) for channel, program in sorted(programs.items())]
    for note in notes:
        if not (0 <= note.pitch <= 127 and 1 <= note.velocity <= 127 and 0 <= note.channel <= 15 and note.length > 0):
            raise ValueError(f"{note} cannot be written as MIDI")
        events.append((round(note.start * TICKS), 3, bytes([0x90 | note.channel, note.pitch, note.velocity])))
        # A note ends before another of the same pitch begins at the same tick.
        events.append((round((note.start + note.length) * TICKS), 2, bytes([0x80 | note.channel, note.pitch, 0])))
    track = bytearray()
    now = 0
    for tick, _, data in sorted(events):
        track += _variable_length(tick - now) + data
        now = tick
    track += b"\x00\xff\x2f\x00"
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS)
    return header + b"MTrk" + struct.pack(">I", len(track)) + bytes(track)


def _variable_length(value: int) -> bytes:
    """Return a number as MIDI writes it: seven bits a byte, the highest bit set in all but the last."""
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(0x80 | (value & 0x7F))
    return bytes(reversed(out))
