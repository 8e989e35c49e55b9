"""What the page asks a real memory."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from mertd.errors import StoreError, UsageError
from mertd.memory.memory_folder import open_if_there, segments
from mertd.memory.store import Store
from mertd.view import remembered, span_reading
from mertd.view.live_novelty import LiveNovelty
from mertd.view.memory_routes import MemoryRoutes
from mertd.view.remembered import MAX_WINDOWS, Remembered
from mertd.wire import Embedding, Time
from messages import embedding, event

HOP_MS = 5_000
COUNT = 300
SECTION = 50
DAY_MS = 86_400_000
BEGIN_MS = 20 * DAY_MS


def heard(seq: int, seed: int = 0) -> Embedding:
    """A window: sections of 50 windows, of which the third sounds like the first."""
    sound = np.random.default_rng((seq // SECTION) % 2).standard_normal(32)
    noise = np.random.default_rng([seed, seq]).standard_normal(32)
    start = (BEGIN_MS + seq * HOP_MS) * 1_000_000
    vector = (4 + sound + 0.1 * noise).astype(np.float32)[None]
    return embedding(seq, vector=vector, time=Time(start, start + 30_000_000_000, 0, 0.0))


def remember(folder: Path, messages: list[Embedding]) -> None:
    with Store(folder, 1 << 30, 1 << 30) as store:
        store.append(messages)
        detail = {"strength": 1.5, "bound_ns": 15_000_000_000, "delay_ns": 1, "seq": 1, "space": "x"}
        at_ns = (BEGIN_MS + SECTION * HOP_MS) * 1_000_000
        like = {"start_ns": 5_000_000, "end_ns": 9_000_000}
        store.append(
            [
                event(0, event="change", detail=detail, time_ns=at_ns),
                event(1, event="return", detail={**detail, "similarity": 0.9, "like": like}, time_ns=at_ns),
                event(2, event="change", detail={"strength": "strong", "like": 7}, time_ns=at_ns + 1),
                event(3, event="silent", time_ns=at_ns),
            ]
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("memory")
    remember(found, [heard(seq) for seq in range(COUNT)])
    return found


@pytest.fixture
def memory(folder: Path) -> Remembered:
    return Remembered(folder)


def whole(memory: Remembered, midnight_ms: int = BEGIN_MS) -> dict:
    key = memory.streams()[0]["key"]
    return memory.span(key, BEGIN_MS - HOP_MS, BEGIN_MS + COUNT * HOP_MS, midnight_ms)


def test_streams_are_named(memory: Remembered) -> None:
    (stream,) = memory.streams()
    assert (stream["daemon"], stream["stream"], stream["size"], stream["trained"]) == ("studio", "room", 32, False)
    assert (stream["first_ms"], stream["last_ms"]) == (BEGIN_MS, BEGIN_MS + (COUNT - 1) * HOP_MS)
    assert stream["hop_ms"] == HOP_MS


def test_a_span_has_a_line_marks_a_square_and_a_path(memory: Remembered) -> None:
    found = whole(memory)
    json.dumps(found, allow_nan=False)
    assert (found["windows"], found["one_in"], found["trained"]) == (COUNT, 1, False)
    line = found["line"]
    peaks = [ms for ms, value in zip(line["ms"], line["novelty"], strict=True) if value > 0.8 * max(line["novelty"])]
    borders = [BEGIN_MS + 15_000 + (SECTION * at - 0.5) * HOP_MS for at in range(1, COUNT // SECTION)]
    assert all(min(abs(peak - border) for border in borders) <= HOP_MS for peak in peaks)
    assert {round((peak - BEGIN_MS) / SECTION / HOP_MS) for peak in peaks} == {1, 2, 3, 4, 5}
    assert [(mark["event"], mark["number"]) for mark in found["marks"]] == [("change", 1.5), ("return", 0.9), ("change", None)]
    assert found["marks"][1]["like_ms"] == [5, 9]
    size = found["square"]["size"]
    values = np.frombuffer(base64.b64decode(found["square"]["data"]), np.uint8).reshape(size, size)
    at = [round(size * (SECTION * section + 25) / COUNT) for section in range(3)]
    assert values[at[0], at[2]] > 200, "the third section is like the first"
    assert values[at[0], at[1]] < 90
    assert len(found["path"]["x"]) == size


def test_the_axes_of_a_day_stay(tmp_path: Path) -> None:
    """First those of its first minutes, as there is no more; from the first hour on, the same for ever."""
    remember(tmp_path, [heard(seq) for seq in range(750)])
    memory = Remembered(tmp_path)
    key = memory.streams()[0]["key"]
    span = (key, BEGIN_MS, BEGIN_MS + 150 * HOP_MS)
    first = memory.span(*span, BEGIN_MS)
    with Store(tmp_path, 1 << 30, 1 << 30) as store:
        store.append([heard(seq, seed=9) for seq in range(750, 800)])
    assert memory.span(*span, BEGIN_MS)["path"] == first["path"]
    assert memory.span(*span, BEGIN_MS + DAY_MS)["path"] != first["path"], "the next day has others"
    again = Remembered(tmp_path)
    assert again.span(*span, BEGIN_MS)["path"] == first["path"], "also in another process"


def test_a_long_span_is_read_in_part(memory: Remembered) -> None:
    key = memory.streams()[0]["key"]
    found = memory.span(key, BEGIN_MS, BEGIN_MS + 10 * MAX_WINDOWS * HOP_MS, BEGIN_MS)
    assert found["one_in"] == 10
    assert found["windows"] == COUNT // 10


def test_what_sounds_alike_is_elsewhere(memory: Remembered) -> None:
    key = memory.streams()[0]["key"]
    at_ms = BEGIN_MS + 15_000 + 25 * HOP_MS
    found = memory.similar(key, at_ms)
    assert found["start_ms"] == BEGIN_MS + 25 * HOP_MS
    best = found["moments"][0]
    assert (best["best_ms"] - BEGIN_MS) // HOP_MS // SECTION % 2 == 0, "in a section of the same sound"
    assert abs(best["best_ms"] - at_ms) > 120_000
    assert memory.similar(key, None)["end_ms"] == BEGIN_MS + (COUNT - 1) * HOP_MS + 30_000


def test_what_is_not_there_is_refused(memory: Remembered, tmp_path: Path) -> None:
    key = memory.streams()[0]["key"]
    for since, until in ((5, 5), (9, 5), (0, 10**15), (10**17, 10**17 + 5_000)):
        with pytest.raises(UsageError, match="span"):
            memory.span(key, since, until, 0)
    with pytest.raises(UsageError, match="nothing of this stream"):
        memory.span("../../etc", 0, 5_000, 0)
    with pytest.raises(UsageError, match="around this time"):
        memory.similar(key, 0)
    with pytest.raises(StoreError, match="no memory"):
        Remembered(tmp_path / "none")
    nothing = memory.span(key, 0, 60_000, 0)
    assert (nothing["windows"], nothing["line"]["ms"]) == (0, [])


def test_the_axes_of_the_day_are_there_before_anyone_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(tmp_path, [heard(seq) for seq in range(0, 1_000, 10)])
    memory = Remembered(tmp_path)
    memory.prepare()
    (stream,) = memory.streams()
    last = datetime.fromtimestamp(stream["last_ms"] / 1000)
    midnight_ms = int(last.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()) * 1000

    def searched(_directions: object) -> None:
        raise AssertionError("axes are looked for again")

    monkeypatch.setattr(remembered, "find_axes", searched)
    span = memory.span(stream["key"], stream["first_ms"], stream["last_ms"] + 1, midnight_ms)
    assert span["path"]["share"]


@pytest.fixture
def browser(folder: Path) -> Iterator[TestClient]:
    with TestClient(Starlette(routes=MemoryRoutes(folder, LiveNovelty()).routes)) as client:
        yield client


def test_a_browser_asks(browser: TestClient) -> None:
    (stream,) = browser.get("/remembered").json()["streams"]
    asked = {"key": stream["key"], "since": BEGIN_MS, "until": BEGIN_MS + 600_000, "midnight": BEGIN_MS}
    assert browser.get("/span", params=asked).json()["windows"] == 120
    assert len(browser.get("/similar", params={"key": stream["key"]}).json()["moments"]) > 0
    assert browser.get("/lately", params={"key": "x"}).json() == {
        "line": {"ms": [], "novelty": []},
        "variance": 1.0,
        "marks": [],
    }


@pytest.mark.parametrize(
    "query",
    [
        *("", "key=x", "since=1&until=2&midnight=3", "since=1e9&until=2&midnight=0", "since=²&until=1&midnight=1"),
        *("since=-&until=5000&midnight=0", f"since=0&until={'9' * 30}&midnight=0", "key=../../x&since=0&until=5000&midnight=0"),
    ],
)
def test_an_odd_question_is_refused(browser: TestClient, query: str) -> None:
    answer = browser.get(f"/span?{query}")
    assert answer.status_code == 400
    assert answer.json()["problem"]
    assert browser.get("/similar?key=<img>&at=now").status_code == 400


def test_a_memory_may_appear_later(tmp_path: Path) -> None:
    with TestClient(Starlette(routes=MemoryRoutes(tmp_path, LiveNovelty()).routes)) as client:
        assert "no memory" in client.get("/remembered").json()["missing"]
        remember(tmp_path, [heard(seq) for seq in range(20)])
        assert client.get("/remembered").json()["streams"]


def test_a_span_goes_over_several_files_and_opens_no_others(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path, 12_000) as store:
        for first in range(0, COUNT, 30):
            store.append([heard(seq) for seq in range(first, first + 30)])
    assert len(segments(tmp_path)) > 3
    one, several = Remembered(folder), Remembered(tmp_path)
    key = several.streams()[0]["key"]
    span = (key, BEGIN_MS, BEGIN_MS + COUNT * HOP_MS, BEGIN_MS)
    for part in ("windows", "line", "square"):
        assert several.span(*span)[part] == one.span(*span)[part], part
    opened = []
    monkeypatch.setattr(span_reading, "open_if_there", lambda path: opened.append(path) or open_if_there(path))
    assert [*several._files.within(BEGIN_MS * 1_000_000, BEGIN_MS * 1_000_000 + 1)]
    assert len(opened) <= 2, "the first one, and the one that is being written"
