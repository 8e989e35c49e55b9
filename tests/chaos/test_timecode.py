"""The sound that says when it was made, measured as the daemon measures it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.onlooker import complaints
from chaos.timecode import Timecode
from mertd.embed.audio import measure_levels

RATE = 24_000
WINDOW = 24_000
HOUR = 3_600 * RATE


def sound(code: Timecode, count: int, made_ns: int) -> np.ndarray:
    samples = np.frombuffer(code.samples(count), "<f4")
    code.taken(count, made_ns)
    return samples


@given(start=st.integers(0, 3 * RATE), most=st.sampled_from([60 * RATE, HOUR]))
def test_the_level_of_a_window_tells_its_first_sample_within_a_millisecond(start: int, most: int) -> None:
    code = Timecode(most, RATE, WINDOW)
    samples = sound(code, 4 * RATE, 0)
    level = measure_levels(samples[start : start + WINDOW]).rms_dbfs
    assert abs(code.number(level) - start) <= RATE // 1_000


def test_what_a_pipe_did_not_take_is_a_leap_in_time() -> None:
    code = Timecode(HOUR, RATE, WINDOW)
    first = sound(code, RATE, 5_000_000_000)
    rest = sound(code, RATE, 7_000_000_000)
    level = measure_levels(np.concatenate([first, rest])[RATE // 2 :][:WINDOW]).rms_dbfs
    found = code.window(level)
    assert found is not None
    assert np.allclose(found, (5_500_000_000, 7_500_000_000), atol=1e6)


def test_what_was_never_made_has_no_time() -> None:
    code = Timecode(HOUR, RATE, WINDOW)
    samples = sound(code, WINDOW, 0)
    assert code.window(measure_levels(samples).rms_dbfs) is not None
    assert code.window(measure_levels(samples).rms_dbfs + 3) is None
    assert code.window(-200.0) is None


def test_a_loss_that_a_subscriber_does_not_know_of_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = tmp_path / "record"
    record.write_text("embedding room 4 0\nevent room 0 0\nembedding room 5 0\nembedding room 9 3\n")
    numbers = {("embedding", "room"): 9, ("event", "room"): 0}
    assert complaints(record, numbers) == ([], 4, 3)
    monkeypatch.setattr("chaos.onlooker.PATIENCE_S", 0.0)
    wrong, _, _ = complaints(record, numbers | {("embedding", "radio"): 2})
    assert wrong == ["onlooker: ('embedding', 'radio') ended at None, not 2"]
    record.write_text("embedding room 4 0\nembedding room 6 0\nembedding room 6 0\n")
    wrong, _, _ = complaints(record, {("embedding", "room"): 6})
    assert [w.split(",")[0] for w in wrong] == [
        "onlooker: embedding 6 of room after 4",
        "onlooker: embedding 6 of room after 6",
    ]
