"""Novelty of what is heard now: the same as that of the memory."""

from __future__ import annotations

import numpy as np
import pytest

from mertd.view import live_novelty
from mertd.view.live_novelty import MAX_STREAMS, LiveNovelty
from mertd.view.span_sketch import SpanSketch
from mertd.wire import Embedding, Span, Time
from messages import embedding
from view.test_span_sketch import windows


def messages(count: int, hop_s: float = 5.0, sections: int = 1) -> list[Embedding]:
    found = windows(count, hop_s, sections=sections)
    return [
        embedding(
            at,
            vector=found.directions[at][None],
            window=Span(int(found.first[at]), int(found.first[at] + found.length[at]), 24_000),
            time=Time(int(found.start_ns[at]), int(found.end_ns[at]), 0, 0.0),
        )
        for at in range(count)
    ]


def test_it_is_that_of_the_memory() -> None:
    live = LiveNovelty()
    told = [live.take(message) for message in messages(200, sections=2)]
    name = told[0]["key"]
    points = live.lately(name)["line"]
    found = windows(200, sections=2)
    sketch = SpanSketch(0, int(found.end_ns[-1]), 500)
    sketch.add(found)
    times, values = sketch.line()
    assert points["ms"] == (times // 1_000_000).tolist()
    best = int(np.argmax(points["novelty"]))
    assert best == int(values.argmax())
    assert points["novelty"] == pytest.approx(values.tolist(), rel=0.02, abs=0.002)
    assert [fact["ms"] for fact in told if "ms" in fact] == points["ms"]
    (mark,) = live.lately(name)["marks"]
    assert mark["ms"] == points["ms"][best]
    assert [fact["marks"] for fact in told if "marks" in fact] == [[mark]]


def test_streams_and_models_are_kept_apart_and_bounded() -> None:
    live = LiveNovelty()
    names = {live.take(embedding(0, stream=f"s{number}"))["key"] for number in range(MAX_STREAMS + 10)}
    assert len(names) == MAX_STREAMS + 10
    assert len(live._streams) == MAX_STREAMS
    heard = live.heard()
    assert [one["stream"] for one in heard] == [f"s{number}" for number in range(MAX_STREAMS)]
    assert {one["key"] for one in heard} < names
    assert {(one["daemon"], one["trained"]) for one in heard} == {(embedding(0).daemon, embedding(0).model.trained)}
    assert live.lately("never heard of") == {"line": {"ms": [], "novelty": []}, "variance": 1.0, "marks": []}


def test_odd_windows_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_novelty, "MAX_POINTS", 8)
    live = LiveNovelty()
    for seq in (5, 4, 4, 6):
        live.take(embedding(seq))
    assert "novelty" not in live.take(embedding(7, vector=np.full((1, 768), np.nan, np.float32)))
    live.take(embedding(8, window=Span(0, 0, 0)))
    live.take(embedding(9, vector=np.zeros((1, 768), np.float32), boot=bytes(16)))
