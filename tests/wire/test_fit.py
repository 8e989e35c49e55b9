"""What comes from outside is made to fit the wire: nothing keeps a daemon from publishing."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from example_counts import examples
from mertd.wire import Event, decode, encode, fit
from messages import event, status
from wire.drawn import anything, maps, words


@given(st.dictionaries(words | st.integers() | st.none(), anything, max_size=4))
@settings(max_examples=examples(600))
def test_whatever_is_made_to_fit_can_be_published(detail: dict[Any, Any]) -> None:
    message = status(model=fit(detail), streams=fit({"a": detail}), processes=fit({"b": [detail]}))
    decode(encode(message))
    again = decode(encode(event(detail=fit(detail))))
    assert isinstance(again, Event)
    assert again.detail == fit(detail)


@given(maps)
def test_what_fits_is_not_changed(detail: dict[str, Any]) -> None:
    assert fit(detail) == detail


def test_a_text_of_5_mb_is_cut_and_says_so() -> None:
    detail = fit({"message": "x" * 5_000_000, "more": ["\udcff", float("nan"), 1 << 80, object]})
    assert re.fullmatch(r"x+… \(\d+ characters cut\) …x+", detail["message"])
    assert detail["more"] == ["\\udcff", "nan", hex(1 << 80), str(object)]
    assert len(encode(event(detail=detail))[1]) < 20_000


@pytest.mark.slow
def test_many_long_texts_are_cut_shorter_and_the_rest_is_left_out() -> None:
    streams = {f"s{number}": {"problem": "x" * 5_000, "state": "lost"} for number in range(1_000)}
    kept = fit(streams)
    assert list(kept) == list(streams)
    assert all(stream["state"] == "lost" for stream in kept.values())
    some = fit({f"s{number}": number for number in range(1_000_000)})
    assert some.pop("…") == f"{1_000_000 - len(some)} more entries"
    assert len(some) > 10_000
    for found in (kept, some):
        decode(encode(status(model=found, streams=found, processes=found)))


def test_a_map_that_holds_itself_has_an_end() -> None:
    detail: dict[str, Any] = {}
    detail["again"] = detail
    decode(encode(event(detail=fit(detail))))
