"""The scoring of found changes, and the measurement itself, only small."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from made_music import needs_fluidsynth
from memory.changes.made_streams import RATE, SIZE, S, stream
from mertd.bench.change_detection import matched, measure_changes, score
from mertd.evaluate.made_programme import MadeProgramme
from mertd.memory.changes.detector import find_changes
from mertd.memory.changes.stream_window import Change

SECTIONS = [(0, 250), (1, 180), (2, 240), (3, 160)]
PROGRAMME = MadeProgramme(np.zeros(0, np.float32), (250.0, 670.0), (430.0,))


def test_a_change_counts_for_one_join_within_its_bound() -> None:
    change = next(one for one in find_changes(stream(SECTIONS)) if isinstance(one, Change))
    at = [replace(change, time_ns=round(seconds * S), bound_ns=15 * S) for seconds in (100, 102, 300, 315.1)]
    assert matched([101.0, 300.5, 330.2], at) == {101.0: pytest.approx(1), 300.5: pytest.approx(0.5)}
    assert matched([], at) == {}


def test_precision_and_recall_of_a_made_stream() -> None:
    windows = stream(SECTIONS)
    starts = [one.first for one in windows]
    found = score(PROGRAMME, starts, [one.vector.astype(np.float32) for one in windows], 30.0)
    assert (found["found"], found["precision"], found["recall"]) == (3, 1.0, 1.0)
    assert (found["recall_cuts"], found["recall_fades"], found["bound_s"]) == (1.0, 1.0, 15.0)
    assert 0 <= found["error_s"] <= 5
    assert 50 <= found["delay_s"] <= 55
    deaf = score(PROGRAMME, starts, [np.ones(SIZE, np.float32)] * len(starts), 30.0)
    assert (deaf["found"], deaf["precision"], deaf["recall"]) == (0, 1.0, 0.0)
    assert starts[1] == 5 * RATE


@pytest.mark.slow
@needs_fluidsynth
def test_the_measurement_as_a_whole() -> None:
    found = measure_changes("random:0?size=tiny", 2, 4, 30.0, lambda _: None)
    assert (found["pieces"], found["cuts"], found["fades"]) == (4, 2, 1)
    assert not found["trained"]
    assert found["windows"] > 30
    for detector in found["detectors"].values():
        assert 0 <= detector["recall"] <= 1
        assert detector["precision"] == 1
        assert detector["us_a_window"] < 10_000
