"""Sections of what was heard; test_live_changes.py compares them with what was published."""

from __future__ import annotations

from pathlib import Path

from memory.changes.made_streams import S
from memory.changes.test_live_changes import SECTIONS, message, run_of, the_key
from memory.stored import BOOTS
from mertd.memory.changes.detector import NoveltyPoint
from mertd.memory.changes.programme import programme
from mertd.memory.store import Store


def test_novelty_is_traced_within_the_span_asked_for_and_peaks_at_the_changes(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append([message(one) for one in run_of(BOOTS[0], SECTIONS)])
    key = the_key(tmp_path)
    everything: list[NoveltyPoint] = []
    sections = [*programme(tmp_path, key, 0, 10_000 * S, trace=everything.append)]
    times = [point.time_ns for point in everything]
    assert times == sorted(set(times)), "each moment once, in order"
    by_time = {point.time_ns: point.novelty for point in everything}
    for section in sections[1:]:
        near = [value for time_ns, value in by_time.items() if abs(time_ns - section.start_ns) <= 30 * S]
        assert by_time[section.start_ns] == max(near)
    part: list[NoveltyPoint] = []
    assert [*programme(tmp_path, key, 400 * S, 700 * S, trace=part.append)]
    assert part == [point for point in everything if 400 * S <= point.time_ns < 700 * S]
