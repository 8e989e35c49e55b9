"""What is alive, in words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from mertd.view.board import SILENT_MS, Board
from mertd.view.plain_words import PHASES, STATES, delay_words, event_words, level_words, skipped_words
from mertd.vocabulary import EventName, Phase, StreamState
from mertd.wire import Audio, Latency, Message
from messages import embedding, event, status
from wire import drawn

ROOM = {"state": "listening", "source": "device:", "description": "Built-in", "problem": "", "due": 200, "skipped": 3}
HOSTILE = "<img src=x onerror=alert(1)>"


def board(*heard: Message, now_ms: int = 1_000) -> Board:
    made = Board()
    for message in heard:
        made.note(message, now_ms)
    return made


def test_a_stream_says_how_it_is() -> None:
    loud = embedding(4, audio=Audio(-20.5, -3.25, 0, 0, 0), latency_ns=Latency(0, 0, 2_900_000_000))
    whole = board(status(streams={"room": ROOM}), loud).whole()
    (card,) = whole["streams"]
    assert card["words"] == "Listening"
    assert card["tone"] == "good"
    assert card["source"] == "Built-in"
    assert (card["level_dbfs"], card["level_words"]) == (-20.5, "good level")
    assert card["latency_words"] == "2.9 s after the sound"
    assert card["skipped_words"] == "3 of 200 windows skipped (1.5%)"
    assert card["window"] == {"seq": 4, "start_ms": 20_000, "end_ms": 50_000, "numbers": [4.0, 5.0, 6.0], "size": 768}
    assert whole["daemons"][0]["untrained"], "the model of the messages is untrained"


def test_faults_are_kept_with_their_time() -> None:
    lost = status(streams={"room": ROOM | {"state": "lost", "problem": "unplugged"}})
    made = board(status(streams={"room": ROOM}), event(event="device_lost", detail={"message": "unplugged"}), lost)
    card = made.streams["studio", "room"]
    assert card.fault == {"time_ms": 0, "words": "The source is gone: unplugged"}
    assert (card.words, card.tone) == ("The source is gone; looking for it: unplugged", "bad")
    process = {"capture-room": {"last_error": "Traceback\nOSError: gone", "last_error_ns": 9_000_000_000}}
    made.note(status(streams={"room": ROOM}, processes=process), 2)
    assert card.fault == {"time_ms": 9_000, "words": "OSError: gone"}


def test_a_restart_begins_anew_and_a_stream_that_is_gone_leaves() -> None:
    made = board(status(streams={"room": ROOM, "booth": ROOM}), embedding(1))
    assert {card["stream"] for card in made.news()["streams"]} == {"room", "booth"}
    assert made.news() is None
    made.note(status(streams={"room": ROOM}), 1)
    assert made.news() == {"daemons": [], "streams": [], "gone": [{"daemon": "studio", "stream": "booth"}]}
    made.note(status(boot=bytes(16), streams={"room": ROOM}), 1)
    assert made.streams["studio", "room"].window is None


def test_a_daemon_falls_silent_and_comes_back() -> None:
    made = board(status(streams={"room": ROOM}))
    made.news()
    made.tick(1_000 + SILENT_MS)
    assert made.news() is None
    made.tick(1_001 + SILENT_MS)
    (card,) = made.news()["daemons"]
    assert (card["silent"], card["heard_ms"]) == (True, 1_000)
    made.note(status(streams={"room": ROOM}), 9_000)
    assert not made.news()["daemons"][0]["silent"]


def test_a_replay_is_one_and_history_is_not_the_present() -> None:
    assert board(status(daemon="replay:studio", phase=Phase.REPLAYING)).whole()["daemons"][0]["replay"]
    assert not board(embedding(1, replay=True)).streams
    assert board(embedding(1, replay=True, daemon="replay:studio")).streams


def test_names_stay_what_they_are() -> None:
    """They are text in JSON; the page shows them as text."""
    made = board(status(streams={HOSTILE: ROOM | {"problem": HOSTILE}}), embedding(0, stream=HOSTILE))
    (card,) = made.whole()["streams"]
    assert card["stream"] == HOSTILE


@pytest.mark.slow
@given(drawn.messages)
def test_whatever_a_daemon_sends_can_be_shown(message: Message) -> None:
    made = board(message)
    made.tick(10**15)
    json.dumps([made.news(), made.whole()], allow_nan=False)


@pytest.mark.parametrize(
    "facts",
    [
        {"streams": {"room": None}},
        {"streams": {"room": {"state": ["x"], "problem": 7, "due": "many", "skipped": None}}},
        {"streams": {"room": ROOM}, "processes": {"capture-room": {"last_error": " \n", "last_error_ns": 5}}},
        {"streams": {"room": ROOM}, "processes": {"capture-room": 5}},
        {"model": {"trained": "no", "backend": None}},
        {"phase": "dancing"},
    ],
)
def test_a_status_may_hold_anything(facts: dict[str, object]) -> None:
    json.dumps(board(status(**facts)).whole(), allow_nan=False)


@pytest.mark.parametrize("name", [*EventName, "new in another version"])
@pytest.mark.parametrize(
    "detail", [{}, {"reason": ["late"], "cause": {}, "windows": "2", "strength": float("nan"), "state": 1}]
)
def test_every_event_has_words(name: str, detail: dict[str, object]) -> None:
    kind, words = event_words(event(event=name, detail=detail))
    assert kind in ("fault", "mark", "note")
    assert words


def test_every_state_has_words() -> None:
    assert {*STATES} == {*StreamState}
    assert {*PHASES} == {*Phase}


def test_words() -> None:
    assert [level_words(rms) for rms in (-80, -60, -30, -5)] == ["silent", "quiet", "good level", "loud"]
    assert level_words(-30, 0.0) == "too loud: it clips"
    assert [delay_words(s) for s in (0.25, 3, 40)] == [
        "250 ms after the sound",
        "3.0 s after the sound",
        "40 s after the sound: the model hardly keeps up",
    ]
    assert skipped_words(0, 10) == "none skipped"
    assert skipped_words(2, 0) == "2 windows skipped"
