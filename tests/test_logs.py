"""The log: lines that a person or a program can read, not too many of them, and no harm if they cannot be written."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest

from command_process import wait_until
from mertd import logs
from mertd.logs import MAX_SIMILAR, SIMILAR_PERIOD_S, Format, QueuedHandler, log_fields

PATIENCE_S = 30.0


class Pipe:
    """Where lines go, and what has come out at the other end."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.now = 0.0
        self.made: list[QueuedHandler] = []

    def lines(self, form: Format = "text") -> tuple[QueuedHandler, logging.Logger]:
        lines = QueuedHandler(self.writing, form, clock=lambda: self.now)
        self.made.append(lines)
        logger = logging.Logger("mertd.test", logging.DEBUG)
        logger.addHandler(lines)
        return lines, logger

    def read(self) -> list[str]:
        """All lines, once the writers have finished."""
        for lines in self.made:
            lines.close()
        os.close(self.writing)
        self.writing = -1
        with open(self.reading, closefd=False, encoding="utf-8") as stream:
            return stream.read().splitlines()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    for lines in pipe.made:
        lines.close()
    for descriptor in (pipe.reading, pipe.writing):
        if descriptor >= 0:
            os.close(descriptor)


def explode() -> None:
    raise ValueError("this is\nwhat happened")


def test_text_is_one_line_an_event_and_what_belongs_to_it_is_indented(pipe: Pipe) -> None:
    _, logger = pipe.lines()
    logger.warning("%s: device_lost: %s", "chords", "gone\nfor good", extra=log_fields(event="device_lost"))
    try:
        explode()
    except ValueError:
        logger.exception("a bug")
    first, second, bug, *trace = pipe.read()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d WARNING chords: device_lost: gone", first)
    assert second == "    for good"
    assert bug.endswith("ERROR   a bug")
    assert len(trace) > 3
    assert all(line.startswith("    ") for line in trace)


def test_json_is_one_map_a_line(pipe: Pipe) -> None:
    _, logger = pipe.lines("json")
    logger.warning(
        "%s: lost: %s", "chords", "gone\nfor good", extra=log_fields(event="device_lost", detail={"a": 1}, level="x")
    )
    try:
        explode()
    except ValueError:
        logger.exception("a bug")
    event, bug = [json.loads(line) for line in pipe.read()]
    assert datetime.fromisoformat(event.pop("time")).tzinfo is not None
    assert event == {
        "level": "warning",
        "logger": "mertd.test",
        "message": "chords: lost: gone\nfor good",
        "event": "device_lost",
        "detail": {"a": 1},
    }
    assert "Traceback" in bug["message"]
    assert "what happened" in bug["message"]


def test_of_lines_that_say_the_same_only_some_are_written_and_the_rest_is_counted(pipe: Pipe) -> None:
    lines, logger = pipe.lines()
    for number in range(100):
        logger.info("%s: overflow %d", "chords", number)
    logger.info("something else")
    pipe.now = SIMILAR_PERIOD_S
    logger.warning("%s: overflow %d", "chords", 100)
    assert lines.left_out == 100 - MAX_SIMILAR
    written = [line[20:] for line in pipe.read()]
    assert written == [
        *(f"INFO    chords: overflow {number}" for number in range(MAX_SIMILAR)),
        "INFO    something else",
        f"INFO    {100 - MAX_SIMILAR} more lines like '%s: overflow %d' were left out in {SIMILAR_PERIOD_S:.0f} s",
        "WARNING chords: overflow 100",
    ]


def test_what_was_left_out_is_told_even_if_nothing_follows(pipe: Pipe) -> None:
    _, logger = pipe.lines()
    for _ in range(MAX_SIMILAR + 3):
        logger.info("again")
    assert pipe.read()[-1].endswith(f"3 more lines like 'again' were left out in {SIMILAR_PERIOD_S:.0f} s")


def test_kinds_of_lines_are_not_remembered_for_ever(pipe: Pipe) -> None:
    lines, logger = pipe.lines()
    for number in range(1_000):
        logger.debug(f"no two lines {number} are alike")
        pipe.now += SIMILAR_PERIOD_S / 10
    assert len(lines._similar) <= 12
    assert lines.left_out == 0


@pytest.mark.skipif(sys.platform != "linux", reason="it needs /dev/full")
def test_lines_for_a_full_disk_are_counted_and_told_of_when_there_is_room_again(pipe: Pipe) -> None:
    lines, logger = pipe.lines()
    full, kept = os.open("/dev/full", os.O_WRONLY), os.dup(pipe.writing)
    os.dup2(full, pipe.writing)
    for number in range(5):
        logger.info("lost %d", number)
    wait_until(lambda: lines.lost == 5, PATIENCE_S, lambda: f"only {lines.lost} were lost")
    os.dup2(kept, pipe.writing)
    os.close(kept)
    os.close(full)
    logger.info("there is room")
    told, room = pipe.read()
    assert told.endswith("WARNING 5 lines of this log could not be written and are lost")
    assert room.endswith("INFO    there is room")
    assert lines.lost == 5


def test_a_closed_pipe_is_no_error(pipe: Pipe) -> None:
    lines, logger = pipe.lines()
    os.close(pipe.reading)
    pipe.reading = -1
    for number in range(5):
        logger.info("lost %d", number)
    wait_until(lambda: lines.lost == 5, PATIENCE_S, lambda: f"only {lines.lost} were lost")


@pytest.mark.skipif(sys.platform != "linux", reason="it needs a pipe of known size")
def test_a_pipe_that_nobody_reads_holds_nobody_up(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_QUEUED", 50)
    size = fcntl.fcntl(pipe.writing, fcntl.F_SETPIPE_SZ, 4_096)
    lines, logger = pipe.lines()
    for number in range(300):
        logger.info(f"{number} {'x' * (size // 10)}")
    assert lines.lost > 300 - 50 - 50 - 12, "as many as fit the pipe, the queue, and the writer's hands are not lost"
    lost = lines.lost
    read: list[str] = []

    def drain() -> None:
        with open(pipe.reading, closefd=False, encoding="utf-8") as stream:
            read.extend(stream.read().splitlines())

    reader = threading.Thread(target=drain)
    reader.start()
    wait_until(lambda: not lines._queue and not lines._busy, PATIENCE_S, lambda: "it does not go on")
    lines.close()
    os.close(pipe.writing)
    pipe.writing = -1
    reader.join(PATIENCE_S)
    assert lines.lost == lost
    notices = [line for line in read if "could not be written and are lost" in line]
    assert sum(int(line.split()[3]) for line in notices) == lost
    assert len(read) - len(notices) + lost == 300, "every line was written or counted"


def test_whatever_is_logged_the_caller_is_not_harmed(pipe: Pipe) -> None:
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError("no words")

    _, logger = pipe.lines("json")
    logger.info("%s", Bad())
    logger.info("%d and %d", 1)
    logger.info("\udcff", extra=log_fields(odd=Bad))
    bad, wrong, odd = [json.loads(line) for line in pipe.read()]
    assert re.fullmatch(r"a line of .*test_logs.py:\d+ could not be made: RuntimeError", bad["message"])
    assert wrong["message"].endswith("could not be made: TypeError")
    assert odd["message"] == "\udcff"


def test_a_log_is_installed_and_taken_away_again(pipe: Pipe) -> None:
    root, ours = logging.getLogger(), logging.getLogger("mertd")
    before = (root.level, ours.level)
    lines, _ = pipe.lines()
    logs.install(lines, "warning")
    try:
        said: list[Callable[..., None]] = [ours.info, ours.warning, logging.getLogger("asyncio").error]
        for number, say in enumerate(said):
            say("line %d", number)
    finally:
        logs.uninstall(lines)
        root.setLevel(before[0])
        ours.setLevel(before[1])
    ours.warning("nobody hears this")
    assert [line[20:] for line in pipe.read()] == ["WARNING line 1", "ERROR   line 2"]


def test_foreign_text_neither_acts_on_a_terminal_nor_forges_a_line_of_the_log(pipe: Pipe) -> None:
    _, logger = pipe.lines()
    forged = "2026-11-25 20:00:00 INFO    all is well"
    logger.warning("%s: lost", f"\x1b]0;pwned\x07\x9b31m\u202e\x85\u2028{forged}\r{forged}\n{forged}\udcff")
    try:
        raise ValueError(f"\x1b[2J\n{forged}")
    except ValueError:
        logger.exception("a bug")
    first, *more = pipe.read()
    assert first.endswith(rf"\x1b]0;pwned\x07\x9b31m\u202e\x85\u2028{forged}\r{forged}")
    assert more[0] == rf"    {forged}\udcff: lost"
    assert more[-2:] == [r"    ValueError: \x1b[2J", f"    {forged}"]


def test_a_line_has_an_end_however_long_the_text(pipe: Pipe) -> None:
    _, logger = pipe.lines()
    _, structured = pipe.lines("json")
    for log in (logger, structured):
        log.warning("%s", "x" * 5_000_000)
    text, line = sorted(pipe.read())
    assert len(text) < 20_000
    assert len(line) < 30_000
    assert "characters cut) …" in text
    assert "characters cut) …" in json.loads(line)["message"]


def test_json_is_safe_on_a_terminal(pipe: Pipe) -> None:
    _, logger = pipe.lines("json")
    logger.warning("\x7f\x9b\x1b\u202e", extra=log_fields(bytes=b"\xff"))
    (line,) = pipe.read()
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == "\x7f\x9b\x1b\u202e"
