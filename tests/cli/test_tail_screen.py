"""What `mertd tail` shows at a terminal, without one."""

from __future__ import annotations

from collections import deque
from typing import Any, cast

import numpy as np
import pytest
from rich.cells import cell_len

from memory.changes.made_streams import stream
from memory.changes.test_live_changes import SECTIONS, message
from mertd.cli.live_screen import LiveScreen
from mertd.cli.stream_line import StreamLine, duration
from mertd.cli.tail_screen import AWAY_S, TailScreen
from mertd.cli.terminal_text import BLOCKS
from mertd.wire import Message
from messages import MODEL, embedding, event, status

EVIL = "\x1b]0;pwned\x07\x1b[2J\x9b31m\r\u202e\n"


class Paper:
    """What stands for a screen: nothing is drawn on it."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self.encoding = encoding
        self.complaints: deque[str] = deque()

    def draw(self, lines: list[str], styles: list[str]) -> None:
        """Do nothing."""

    def complain(self, text: str) -> None:
        self.complaints.append(text)


class Shown:
    """A screen of `mertd tail`, with a clock that the test sets."""

    def __init__(self, streams: tuple[str, ...] = ()) -> None:
        self.now_s = 0.0
        self.screen = TailScreen("tcp://here", streams, cast(LiveScreen, Paper()), lambda: self.now_s)

    def take(self, *messages: Message) -> None:
        for one in messages:
            self.screen.show(one)

    def lines(self, width: int = 100, height: int = 20) -> list[str]:
        lines, styles = self.screen.content(width, height)
        assert len(lines) <= height
        assert len(styles) <= len(lines) + 1
        return lines


def told(**streams: Any) -> Message:
    return status(streams={name: {"state": state} for name, state in streams.items()})


def test_streams_by_name_with_their_state() -> None:
    shown = Shown()
    assert shown.lines() == ["connecting  tcp://here"]
    shown.take(told(kitchen="listening", attic="lost"), embedding(0, "kitchen"))
    head, untrained, attic, kitchen = shown.lines()
    assert head == "running  tcp://here"
    assert untrained.startswith("UNTRAINED")
    assert attic == "attic    lost"
    assert kitchen.split()[:4] == ["kitchen", "-20.5", "dBFS", "learning"]
    assert kitchen.endswith("0.0 s late")
    shown.take(told(kitchen="listening"))
    assert not [line for line in shown.lines() if "attic" in line], "a stream that is gone"


def test_only_the_streams_asked_for() -> None:
    shown = Shown(("hall",))
    shown.take(told(hall="listening", attic="listening"), embedding(0, "attic"), embedding(0, "hall"))
    assert [line.split()[0] for line in shown.lines()[2:]] == ["hall"]


def test_a_daemon_that_is_away_is_said_to_be() -> None:
    shown = Shown()
    shown.take(told(hall="listening"))
    shown.now_s += AWAY_S + 7
    assert shown.lines()[0] == "no status for 12 s; is the daemon running?  tcp://here"
    shown.take(status(daemon="another", streams={"yard": {"state": "listening"}}))
    assert [line.split()[0] for line in shown.lines()] == ["running", "yard"], "and its streams leave when another is heard"


def test_events_and_complaints_below() -> None:
    shown = Shown()
    silence = event(3, event="silent", detail={"end": 1, "rms_dbfs": -80.0})
    shown.take(told(room="listening"), *(event(number) for number in range(60)), silence)
    shown.screen.complain("3 messages were lost")
    lines = shown.lines(height=8)
    assert lines[1].split()[:4] == ["room", "-80.0", "dBFS", "silent"]
    assert lines[2] == ""
    assert lines[-1] == "3 messages were lost"
    assert all("skipped" in line for line in lines[3:-1])
    assert len(shown.lines(height=3)) <= 3


def test_more_streams_than_lines() -> None:
    shown = Shown()
    shown.take(told(**{f"s{number:03}": "listening" for number in range(200)}), *(event(number, "s000") for number in range(9)))
    lines = shown.lines(height=12)
    assert len(lines) == 12
    assert "194 more streams; --stream NAME shows one" in lines
    assert len([line for line in lines if "skipped" in line]) == 3, "and yet the last events are there"


def test_the_sound_that_changes() -> None:
    line = StreamLine("studio", "room")
    words = []
    for one in stream(list(SECTIONS)):
        line.note_embedding(message(one))
        words.append(line.change_words())
    assert words[0] == "learning"
    assert "changed 50 s ago" in words or "changed 52 s ago" in words, words[40:80]
    assert any(word.startswith("like ") and word.endswith(" again") for word in words)
    assert any(word.startswith("steady ") for word in words)
    text = line.text(100, BLOCKS, 4)
    assert "█" in text, "the changes stand out"
    assert text.count("▁") > 10, "and nothing else does"


def test_what_breaks_a_spark_line_does_not_break_the_line() -> None:
    line = StreamLine("studio", EVIL)
    for number in range(60):
        vector = np.full((1, 3 + number % 2), np.nan if number % 3 else number, np.float32)
        line.note_embedding(embedding(number, EVIL, vector=vector, model=MODEL, boot=bytes([number % 5]) * 16))
    line.note_event(event(event="silent", detail={"rms_dbfs": "loud"}))
    line.note_status({"state": EVIL})
    for width in (1, 5, 20, 39, 40, 80, 300):
        text = line.text(width, BLOCKS, 8)
        assert cell_len(text) <= width
        assert not {"\x1b", "\r", "\n", "\x9b", "\u202e"} & set(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0 s"), (99, "99 s"), (100, "2 min"), (5_900, "98 min"), (6_000, "2 h"), (720_000, "200 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("height", range(1, 9))
@pytest.mark.parametrize("width", [1, 7, 20, 300])
def test_every_size_is_filled_and_not_more(width: int, height: int) -> None:
    shown = Shown()
    shown.take(told(**{f"s{number:03}": "listening" for number in range(20)}), *(event(number, "s000") for number in range(9)))
    shown.take(*(embedding(number, f"s{number:03}") for number in range(20)))
    assert 1 <= len(shown.lines(width, height)) <= height
    assert shown.lines(width, height)[0].startswith("running")
