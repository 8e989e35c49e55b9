from __future__ import annotations

from mertd.evaluate.made_pieces import MadePiece, make_piece


def notes(piece: MadePiece) -> bytes:
    return piece.midi(10)


def test_a_seed_is_a_piece() -> None:
    assert notes(make_piece(3)) == notes(make_piece(3))
    assert len({notes(make_piece(seed)) for seed in range(20)}) == 20


def test_every_change_changes_what_it_says_and_nothing_else() -> None:
    for seed in range(30):
        piece = make_piece(seed)
        other = piece.in_other_instruments()
        assert all(a != b for a, b in zip(piece.programs, other.programs, strict=True))
        assert (other.tonic, other.beats_a_minute) == (piece.tonic, piece.beats_a_minute)
        faster = piece.in_other_tempo()
        assert round(faster.beats_a_minute / piece.beats_a_minute, 6) in (0.8, 1.25)
        assert (faster.tonic, faster.programs) == (piece.tonic, piece.programs)
        higher = piece.in_other_key()
        assert 3 <= abs(higher.tonic - piece.tonic) <= 5
        assert (higher.beats_a_minute, higher.programs) == (piece.beats_a_minute, piece.programs)
        all_three = piece.in_other_instruments().in_other_tempo().in_other_key()
        assert (all_three.programs, all_three.tonic) == (other.programs, higher.tonic)
