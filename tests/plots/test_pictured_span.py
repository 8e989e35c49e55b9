"""What a picture shows, without drawing it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from memory.changes.made_streams import S
from memory.changes.test_live_changes import SECTIONS, message, run_of, the_key
from memory.stored import BOOTS
from mertd.memory.changes.programme import programme
from mertd.memory.queries import FOREVER_NS
from mertd.memory.store import Store
from mertd.plots.evening_picture import STEPS_S, TICKS, round_times
from mertd.plots.pictured_span import PIXELS, PicturedSpan, RecordedSpan, remembered_span
from mertd.view.span_sketch import SpanSketch
from messages import embedding


def remembered(folder: Path, since_ns: int = -FOREVER_NS, until_ns: int = FOREVER_NS) -> PicturedSpan:
    key = the_key(folder)
    found = remembered_span(folder, key, since_ns, until_ns, [*programme(folder, key, since_ns, until_ns)])
    assert found is not None
    return found


def test_a_recording_shows_what_the_memory_of_it_shows(tmp_path: Path) -> None:
    messages = [message(one) for one in run_of(BOOTS[0], SECTIONS)]
    with Store(tmp_path) as store:
        store.append(messages)
    heard = RecordedSpan("song")
    for one in messages:
        heard.add(one)
    recorded, stored = heard.picture(), remembered(tmp_path)
    assert recorded is not None
    assert recorded.changes == stored.changes
    assert [returned for _, returned in stored.changes] == [False, False, True, False, True]
    assert (recorded.by_clock, stored.by_clock, recorded.trained, stored.trained) == (False, True, False, False)
    assert recorded.sketch.count == stored.sketch.count == len(messages)
    for one, other in zip(recorded.sketch.line(), stored.sketch.line(), strict=True):
        np.testing.assert_allclose(one, other, atol=0.01)
    times, values = stored.sketch.line()
    for time_ns, _ in stored.changes:
        near = abs(times - time_ns) <= 30 * S
        assert values[near].max() > 10 * np.median(values), "the line peaks where it changed"


def test_only_the_time_asked_for(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append([message(one) for one in run_of(BOOTS[0], SECTIONS)])
    part = remembered(tmp_path, 300 * S, 900 * S)
    assert 300 * S <= part.sketch.since_ns < 310 * S
    assert 895 * S < part.sketch.until_ns <= 930 * S
    assert part.sketch.count == 120
    assert remembered_span(tmp_path, the_key(tmp_path), 90_000 * S, FOREVER_NS, []) is None


def test_a_recording_without_windows_and_one_with_none_that_is_finite() -> None:
    assert RecordedSpan("a").picture() is None
    one = RecordedSpan("a")
    one.add(embedding(0, vector=np.full((1, 8), np.nan, np.float32)))
    assert one.picture() is None
    one.add(embedding(1, vector=np.zeros((1, 8), np.float32)))
    found = one.picture()
    assert found is not None
    assert (found.sketch.count, found.sketch.pixels) == (1, 1)


def test_a_long_time_has_no_more_points_than_paper_shows() -> None:
    one = RecordedSpan("a")
    for seq in range(2 * PIXELS):
        one.add(embedding(seq, vector=np.eye(4, dtype=np.float32)[seq % 4][None]))
    found = one.picture()
    assert found is not None
    assert found.sketch.pixels == PIXELS
    assert found.sketch.means()[1].sum() == 2 * PIXELS


@pytest.mark.parametrize("length_s", [3, 59, 61, 600, 3_600, 12 * 3_600, 86_400, 30 * 86_400, 400 * 86_400])
@pytest.mark.parametrize("begin_s", [0, 1_700_000_123])
def test_axes_show_round_times(length_s: int, begin_s: int) -> None:
    span = PicturedSpan("a", SpanSketch(begin_s * S, (begin_s + length_s) * S, 1), [], True, by_clock=False)
    times = round_times(span)
    assert 2 <= len(times) <= TICKS + 1
    assert times[0] >= 0
    assert times[-1] <= length_s
    step = times[1] - times[0]
    assert step in STEPS_S
    assert all((begin_s + time) % step == pytest.approx(0, abs=1e-3) for time in times)
