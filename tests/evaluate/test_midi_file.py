from __future__ import annotations

import pytest

from mertd.evaluate.midi_file import Note, midi_bytes


def test_the_bytes_of_one_note() -> None:
    """By hand, from the Standard MIDI Files specification 1.0."""
    data = midi_bytes([Note(1.0, 0.5, 60, 100, 2)], {2: 40}, 120)
    track = bytes.fromhex("00 ff5103 07a120  00 c228  8360 923c64  8170 823c00  00 ff2f00")
    assert data == bytes.fromhex("4d546864 00000006 0000 0001 01e0") + b"MTrk" + len(track).to_bytes(4, "big") + track


def test_a_note_ends_before_the_same_one_begins_again() -> None:
    data = midi_bytes([Note(0, 1, 60, 100, 0), Note(1, 1, 60, 100, 0)], {}, 60)
    assert data.index(bytes([0x80, 60, 0])) < data.rindex(bytes([0x90, 60, 100]))


@pytest.mark.parametrize("note", [Note(0, 1, 128, 100, 0), Note(0, 1, 60, 0, 0), Note(0, 1, 60, 100, 16), Note(0, 0, 60, 9, 0)])
def test_what_midi_cannot_say_is_refused(note: Note) -> None:
    with pytest.raises(ValueError, match="MIDI"):
        midi_bytes([note], {}, 120)
