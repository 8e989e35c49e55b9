"""What is found while a memory is being written is what is found in it afterwards, whenever the finder began."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command_process import PATIENCE_S
from memory.changes.made_streams import S, of, stream
from memory.stored import BOOTS
from mertd.memory.changes.detector import Reach, find_changes
from mertd.memory.changes.live_changes import LiveChanges
from mertd.memory.changes.programme import Beginning, programme
from mertd.memory.changes.stream_reading import BEGINNING, StreamKey, back_from, first_since, stream_keys, windows
from mertd.memory.changes.stream_window import Change, ChangeKind, StreamWindow
from mertd.memory.changes.wording import event_detail, section_map
from mertd.memory.queries import FOREVER_NS
from mertd.memory.store import Store
from mertd.wire import Embedding, Span, Time
from messages import MODEL, embedding

SECTIONS = [(0, 250), (1, 180), (2, 240), (0, 160), (3, 200), (1, 200)]
SMALL = Reach(half=3, history=30, horizon=140)


def message(one: StreamWindow, name: str = "room", **changes: Any) -> Embedding:
    facts: dict[str, Any] = {
        "boot": one.boot,
        "epoch": one.epoch,
        "window": Span(one.first, one.first + one.length, 24_000),
        "time": Time(one.start_ns, one.end_ns, 0, 0.0),
        "vector": one.vector.astype("f4")[None],
    }
    return embedding(one.seq, name, **{**facts, **changes})


def run_of(boot: bytes, sections: Sequence[tuple[int, int]], after_s: int = 0) -> list[StreamWindow]:
    """The windows of one run of a daemon, so many seconds after the epoch."""
    return [
        replace(one, boot=boot, start_ns=one.start_ns + after_s * S, end_ns=one.end_ns + after_s * S)
        for one in stream(list(sections))
    ]


def the_key(folder: Path, name: str = "room") -> StreamKey:
    (key,) = (key for key in stream_keys(folder) if key.stream == name)
    return key


class Listener:
    """Takes what is reported, as a daemon does: the changes of a window once."""

    def __init__(self) -> None:
        self.told: dict[str, int] = {}
        self.heard: list[Change] = []
        self.events: list[dict[str, Any]] = []

    def report(self, key: StreamKey, found: list[Change]) -> None:
        assert found[0].seq > self.told.get(key.stream, -1), "told twice"
        self.told[key.stream] = found[0].seq
        self.heard += found
        self.events += [event_detail(change, key.space) for change in found]


def test_what_is_read_is_what_was_stored_over_all_files(tmp_path: Path) -> None:
    first, second = run_of(BOOTS[0], SECTIONS), run_of(BOOTS[1], SECTIONS, 5_000)
    with Store(tmp_path, max_file=60_000) as store:
        for at in range(0, len(first), 40):
            store.append([message(one, name) for one in first[at : at + 40] for name in ("room", "hall")])
        for at in range(0, len(second), 40):
            store.append([message(one) for one in second[at : at + 40]])
        assert store.current.number > 2
    found = list(windows(tmp_path, the_key(tmp_path)))
    assert [(one.boot, one.seq) for _, one in found] == [(one.boot, one.seq) for one in first + second]
    for (place, one), sent in zip(found, first + second, strict=True):
        assert (one.first, one.length, one.start_ns, one.end_ns) == (sent.first, sent.length, sent.start_ns, sent.end_ns)
        assert (one.vector == sent.vector.astype("f4")).all(), "the vectors of this test are float16"
        assert place > BEGINNING
    places = [place for place, _ in found]
    assert places == sorted(places)
    for at in (0, 7, len(places) - 1):
        assert [place for place, _ in windows(tmp_path, the_key(tmp_path), places[at])] == places[at + 1 :]
        assert first_since(tmp_path, the_key(tmp_path), found[at][1].start_ns) == places[at]
    place, cut_off = back_from(tmp_path, the_key(tmp_path), places[300], 100)
    assert (places.index(place), cut_off) == (199, True)
    assert back_from(tmp_path, the_key(tmp_path), places[90], 100) == (BEGINNING, False)
    assert first_since(tmp_path, the_key(tmp_path), 20_000 * S) is None


def test_spaces_are_kept_apart(tmp_path: Path) -> None:
    run = run_of(BOOTS[0], SECTIONS)
    other = replace(MODEL, space="fedcba9876543210")
    with Store(tmp_path) as store:
        store.append([message(one, model=MODEL if one.seq < 100 else other) for one in run])
    found = {key.space: [one.seq for _, one in windows(tmp_path, key)] for key in stream_keys(tmp_path)}
    assert found == {other.space: list(range(100, len(run)))}, "a run has one space; what a foreign daemon mixes is left out"


@pytest.mark.slow
@settings(max_examples=3 + settings.default.max_examples // 25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.data())
def test_a_finder_that_is_killed_at_any_moment_tells_each_change_once(
    tmp_path_factory: pytest.TempPathFactory, batches: list[int], data: st.DataObject
) -> None:
    """It may die before or after what it says arrives; what it says is what is found afterwards."""
    folder = tmp_path_factory.mktemp("memory")
    before, now = run_of(BOOTS[0], SECTIONS[:3]), run_of(BOOTS[1], [(2, 240), (1, 160), (3, 200), (1, 200)], 5_000)
    listener = Listener()
    arrives = True

    def report(key: StreamKey, found: list[Change]) -> None:
        if arrives:
            listener.report(key, found)

    with Store(folder) as store:
        store.append([message(one) for one in before])
        finder = LiveChanges(folder, BOOTS[1], dict(listener.told), report, SMALL)
        at = 0
        for size in [*batches, len(now)]:
            store.append([message(one) for one in now[at : at + size]])
            at += size
            arrives = data.draw(st.booleans()) or at >= len(now)
            finder.catch_up()
            if not arrives or data.draw(st.booleans()):
                finder = LiveChanges(folder, BOOTS[1], dict(listener.told), report, SMALL)
                arrives = True
                finder.catch_up()
    expected = [one for one in find_changes(before + now, SMALL) if isinstance(one, Change) and one.boot == BOOTS[1]]
    assert listener.heard == expected
    assert any(one.like is not None and one.like.boot == BOOTS[0] for one in expected), "also to the run before"
    assert_same(folder, listener)


def assert_same(folder: Path, listener: Listener) -> None:
    """`mertd changes` shows what was told, also if it reads only a part."""
    key = the_key(folder)
    shown = list(programme(folder, key, -FOREVER_NS, FOREVER_NS, SMALL))
    told = [one for section in shown for one in (section.change, section.returned) if one is not None and one.boot == BOOTS[1]]
    assert told == listener.heard
    maps = [section_map(section, key) for section in shown]
    for event in listener.events:
        assert any(event.items() <= section.items() for section in maps), event
    for section in shown[1::3]:
        later = list(programme(folder, key, section.start_ns, FOREVER_NS, SMALL))
        assert [one for one in later if one.start_ns >= section.start_ns] == [
            one for one in shown if one.start_ns >= section.start_ns
        ]


def test_what_was_told_already_is_not_told_again(tmp_path: Path) -> None:
    run = run_of(BOOTS[0], SECTIONS)
    with Store(tmp_path) as store:
        store.append([message(one) for one in run])
    whole = of(find_changes(run), ChangeKind.CHANGE)
    for told in (-1, whole[1].seq, whole[-1].seq):
        heard: list[Change] = []
        LiveChanges(tmp_path, BOOTS[0], {"room": told}, lambda _, found: heard.extend(found)).catch_up()  # noqa: B023
        assert [one.seq for one in heard if one.kind is ChangeKind.CHANGE] == [one.seq for one in whole if one.seq > told]


def test_a_new_process_tells_what_the_last_one_found_also_if_nothing_more_is_stored(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.append([message(one) for one in run_of(BOOTS[0], SECTIONS)])
    heard: queue.SimpleQueue[list[Change]] = queue.SimpleQueue()
    finder = LiveChanges(tmp_path, BOOTS[0], {}, lambda _, found: heard.put(found))
    threading.Thread(target=finder.run, daemon=True).start()  # it waits for more until the process ends
    assert heard.get(timeout=PATIENCE_S)[0].kind is ChangeKind.CHANGE


def test_it_says_when_it_is_through(tmp_path: Path) -> None:
    run = run_of(BOOTS[0], SECTIONS)
    said: list[str] = []
    with Store(tmp_path) as store:
        finder = LiveChanges(tmp_path, BOOTS[0], {}, lambda *_: None)
        finder.when_through({"room": 5, "silent": 0}, lambda: said.append("through"))
        finder.catch_up()
        store.append([message(one) for one in run[:4]])
        finder.catch_up()
        assert not said
        store.append([message(run[4])])
        finder.catch_up()
        finder.catch_up()
    assert said == ["through"]


def test_sections_of_a_time(tmp_path: Path) -> None:
    """Each has its whole length, and gaps stand between them."""
    runs = run_of(BOOTS[0], SECTIONS[:3]) + run_of(BOOTS[1], SECTIONS[3:], 5_000)
    with Store(tmp_path) as store:
        store.append([message(one) for one in runs])
    key = the_key(tmp_path)
    shown = list(programme(tmp_path, key, -FOREVER_NS, FOREVER_NS))
    assert [one.begins for one in shown] == [
        *(Beginning.START, Beginning.CHANGE, Beginning.CHANGE),
        *(Beginning.GAP, Beginning.CHANGE, Beginning.CHANGE),
    ]
    assert shown[2].end_ns == runs[len(run_of(BOOTS[0], SECTIONS[:3])) - 1].end_ns
    assert shown[3].start_ns == 5_000 * S
    assert [one.goes_on for one in shown] == [False] * 5 + [True]
    for one, following in pairwise(shown):
        assert one.start_ns < one.end_ns <= following.start_ns
    within = list(programme(tmp_path, key, 300 * S, 500 * S))
    assert within == shown[1:3], "also the one that has begun before, and its end"
    assert list(programme(tmp_path, key, 9_000 * S, FOREVER_NS)) == []
    assert list(programme(tmp_path, key, 1_000 * S, 2_000 * S)) == []


@pytest.mark.parametrize("count", [1, 2, 7, 8, 20])
def test_a_recording_that_is_too_short_for_changes_is_one_section(tmp_path: Path, count: int) -> None:
    with Store(tmp_path) as store:
        store.append([message(one) for one in run_of(BOOTS[0], SECTIONS)[:count]])
    (only,) = programme(tmp_path, the_key(tmp_path), -FOREVER_NS, FOREVER_NS)
    assert (only.begins, only.start_ns, only.end_ns) == (Beginning.START, 0, (count * 5 + 25) * S)
