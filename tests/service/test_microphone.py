"""Opening the microphone once: when reading ends, and with which result. No Mac and no microphone is involved."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat

import pytest

from mertd.service import microphone
from mertd.service.microphone import wait_for_sound

SOUND, ZEROS = b"\1\0", b"\0\0"


class Stream:
    """Delivers these blocks, then zeros."""

    def __init__(self, *blocks: bytes) -> None:
        self._blocks: Iterator[bytes] = chain(blocks, repeat(ZEROS))
        self.reads = 0

    def read(self, frames: int) -> tuple[bytes, bool]:
        self.reads += 1
        return next(self._blocks) * frames, False


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Advance by a tenth of a second at every reading."""
    now = chain.from_iterable([i / 10] for i in range(100_000))
    monkeypatch.setattr(microphone.time, "monotonic", lambda: next(now))


def test_sound_ends_it() -> None:
    stream = Stream(ZEROS, ZEROS, SOUND)
    assert wait_for_sound(lambda: None, stream, 10) == (None, True)
    assert stream.reads == 3


def test_denied_consent_ends_it() -> None:
    answers = chain([None, None], repeat(False))
    stream = Stream()
    assert wait_for_sound(lambda: next(answers), stream, 10) == (False, False)
    assert stream.reads == 3


def test_silence_with_consent_is_read_for_a_while() -> None:
    stream = Stream()
    assert wait_for_sound(lambda: True, stream, 10) == (True, False)
    assert microphone.SETTLE_S / microphone.BLOCK_S / 2 < stream.reads < 2 * microphone.SETTLE_S / microphone.BLOCK_S


def test_a_dialogue_without_answer_times_out() -> None:
    stream = Stream()
    assert wait_for_sound(lambda: None, stream, 10) == (None, False)
    assert stream.reads > microphone.ANSWER_TIMEOUT_S / microphone.BLOCK_S / 2
