"""Opening the microphone once: when it has heard enough, and what it says. No Mac asked anyone anything for this."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat

import pytest

from mertd.service import microphone
from mertd.service.microphone import listen

SOUND, ZEROS = b"\1\0", b"\0\0"


class Stream:
    """Gives these blocks, and then zeros."""

    def __init__(self, *blocks: bytes) -> None:
        self._blocks: Iterator[bytes] = chain(blocks, repeat(ZEROS))
        self.reads = 0

    def read(self, frames: int) -> tuple[bytes, bool]:
        self.reads += 1
        return next(self._blocks) * frames, False


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of a second passes whenever somebody looks."""
    now = chain.from_iterable([i / 10] for i in range(100_000))
    monkeypatch.setattr(microphone.time, "monotonic", lambda: next(now))


def test_sound_is_proof_enough() -> None:
    stream = Stream(ZEROS, ZEROS, SOUND)
    assert listen(lambda: None, stream, 10) == (None, True)
    assert stream.reads == 3


def test_a_refusal_ends_it() -> None:
    answers = chain([None, None], repeat(False))
    stream = Stream()
    assert listen(lambda: next(answers), stream, 10) == (False, False)
    assert stream.reads == 3


def test_silence_that_is_allowed_is_heard_for_a_while() -> None:
    stream = Stream()
    assert listen(lambda: True, stream, 10) == (True, False)
    assert microphone.ENOUGH_S / microphone.BLOCK_S / 2 < stream.reads < 2 * microphone.ENOUGH_S / microphone.BLOCK_S


def test_a_question_that_nobody_answers_is_given_up() -> None:
    stream = Stream()
    assert listen(lambda: None, stream, 10) == (None, False)
    assert stream.reads > microphone.PATIENCE_S / microphone.BLOCK_S / 2
