"""Files to vectors without a daemon: the same windows, whatever their hop, and the same numbers as asked for one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from example_counts import examples
from mertd.capture.address import Address, parse
from mertd.defaults import SAMPLE_RATE
from mertd.embed.embedder import Embedder
from mertd.embed.model_settings import ModelSettings
from mertd.errors import SourceError
from mertd.offline.source_windows import SilentWindow, embed_source, windows
from mertd.windows import Late, Schedule
from mertd.wire import Embedding, Span, decode, encode
from signals import chord_progression

MUSIC = chord_progression(5.3)
WINDOW, HOP = SAMPLE_RATE, SAMPLE_RATE // 2


def ignore(_: float) -> None:
    """Progress is of no interest here."""


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Address:
    """At 24 kHz in float32, so that what is heard is exactly what was written."""
    path = tmp_path_factory.mktemp("song") / "song.wav"
    soundfile.write(path, MUSIC, SAMPLE_RATE, subtype="FLOAT")
    return parse(f"file:{path}")


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(ModelSettings("random:0?size=tiny", (1, 2), "numpy", WINDOW))


@given(window=st.integers(1, 150_000), hop=st.integers(2_000, 150_000))
@settings(max_examples=examples(80))
def test_windows_are_those_of_a_daemon(song: Address, window: int, hop: int) -> None:
    found = list(windows(song, window, hop, ignore))
    due, _ = Schedule(window, hop, Late.QUEUE, 10**9).committed(len(MUSIC))
    assert [start for start, _ in found] == [w.start for w in due]
    for start, samples in found:
        assert np.array_equal(samples, MUSIC[start : start + window])


def test_progress_is_told_and_never_falls(song: Address) -> None:
    told: list[float] = []
    list(windows(song, WINDOW, HOP, told.append))
    assert told == sorted(told)
    assert told[-1] == pytest.approx(len(MUSIC) / SAMPLE_RATE)


@pytest.mark.slow
def test_every_window_becomes_a_message(song: Address, embedder: Embedder) -> None:
    found = list(embed_source(song, embedder, WINDOW, HOP, -60.0, ignore))
    assert len(found) == (len(MUSIC) - WINDOW) // HOP + 1
    for number, message in enumerate(found):
        assert isinstance(message, Embedding)
        start = number * HOP
        assert message.seq == number
        assert message.window == Span(start, start + WINDOW, SAMPLE_RATE)
        assert (message.time.start_ns, message.time.end_ns) == (
            start * 10**9 // SAMPLE_RATE,
            (start + WINDOW) * 10**9 // SAMPLE_RATE,
        )
        assert message.model.layers == (1, 2)
        assert np.array_equal(message.vector, embedder.embed([MUSIC[start : start + WINDOW]])[0])
        assert isinstance(decode(encode(message)), Embedding), "it could travel"


def test_silence_is_told_and_leaves_no_hole_in_the_numbering(tmp_path: Path, embedder: Embedder) -> None:
    samples = MUSIC.copy()
    samples[WINDOW : 3 * WINDOW] = 0
    soundfile.write(tmp_path / "x.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    found = list(embed_source(parse(f"file:{tmp_path / 'x.wav'}"), embedder, WINDOW, WINDOW, -60.0, ignore))
    assert [type(message) for message in found] == [Embedding, SilentWindow, SilentWindow, Embedding, Embedding]
    assert [message.seq for message in found if isinstance(message, Embedding)] == [0, 1, 2]
    assert [message.levels.zeros for message in found if isinstance(message, SilentWindow)] == [WINDOW, WINDOW]


def test_what_is_shorter_than_a_window_is_told(song: Address, embedder: Embedder) -> None:
    with pytest.raises(SourceError, match=r"song\.wav is shorter than a window of 10 s; a shorter --window would fit"):
        list(embed_source(song, embedder, 10 * SAMPLE_RATE, HOP, -60.0, ignore))
