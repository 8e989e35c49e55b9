"""What moves at a terminal: `mertd tail` and `mertd status --watch`, in terminals of all kinds."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from cli.test_foreign_text import ACTING, EVIL, FORGED, lying_daemon
from daemon_process import TINY, Daemon
from mertd.text import printable
from screen_terminal import ENTER_SECOND_SCREEN, HIDE_CURSOR, LEAVE_SECOND_SCREEN, SHOW_CURSOR, ScreenTerminal

pytestmark = [pytest.mark.xdist_group("screen"), pytest.mark.slow]

HOME = "\x1b[H"
COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-9]|4[0-9]|38|48)[0-9;]*m")
SEQUENCES = re.compile(r"\x1b\[\??[0-9;]*[A-Za-z]")
POSIX = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(scope="module")
def live() -> Iterator[Daemon]:
    """A daemon with three streams, one of them silent."""
    sources = [word for name in ("chords", "tone", "silence") for word in ("--source", f"synth:{name}")]
    with Daemon(*TINY, "--window", "1", "--hop", "0.25", *sources) as daemon:
        daemon.until(lambda s: s.streams["chords"]["embedded"] > 10)
        yield daemon


def tail(daemon: Daemon, *words: str, **options: Any) -> ScreenTerminal:
    return ScreenTerminal("tail", "--connect", daemon.publish, "--control", daemon.control, *words, **options)


def assert_left_as_it_was(terminal: ScreenTerminal) -> None:
    assert terminal.raw.rindex(LEAVE_SECOND_SCREEN) > terminal.raw.rindex(ENTER_SECOND_SCREEN)
    assert terminal.raw.rindex(SHOW_CURSOR) > terminal.raw.rindex(HIDE_CURSOR)


def assert_fits(terminal: ScreenTerminal) -> None:
    """No line of a drawing is wider than the screen: it would be continued on the next one, and push the rest down."""
    drawings = SEQUENCES.sub("", terminal.raw.split(LEAVE_SECOND_SCREEN)[0].replace(HOME, "\r\n")).replace("^C", "")
    assert max(map(len, drawings.split("\r\n"))) <= terminal.screen.columns


def test_a_line_a_stream_that_moves(live: Daemon) -> None:
    with tail(live, "--last", "8", lines=10) as terminal:
        terminal.until(lambda: all(name in terminal.text for name in ("chords", "tone", "silence")))
        line = r"chords +-\d+\.\d dBFS +(learning|steady \d+ s) +[▁▂▃▄▅▆▇█]+ +\d\.\d s late"
        terminal.until(lambda: bool(re.search(line, terminal.text)) and terminal.text.startswith("running"))
        head, untrained, *_ = terminal.rows
        assert head.startswith("running  ipc://")
        assert untrained == "UNTRAINED: the weights are random, these vectors mean nothing"
        assert re.search(r"silence +-200\.0 dBFS +silent", terminal.text)
        assert not re.search(r"\[[-+]\d\.\d{3}", terminal.text), "no numbers of vectors"
        terminal.type("\x03")
        assert terminal.end() == 130
        assert_left_as_it_was(terminal)
        assert_fits(terminal)
        kept = terminal.raw.split(LEAVE_SECOND_SCREEN)[-1]
        assert "chords" in kept, "what was shown last stays"


@pytest.mark.parametrize(
    ("columns", "environment"),
    [(20, {}), (20, POSIX), (1, {}), (80, {"NO_COLOR": "1"}), (80, POSIX), (80, {"COLUMNS": "300", "LINES": "90"})],
    ids=["narrow", "narrow, without our characters", "one column", "no colour", "without our characters", "wrong COLUMNS"],
)
def test_terminals_of_all_kinds(live: Daemon, columns: int, environment: dict[str, str]) -> None:
    with tail(live, "--count", "8", columns=columns, lines=8, environment=environment) as terminal:
        assert terminal.end() == 0
        assert_left_as_it_was(terminal)
        assert_fits(terminal)
        drawn = terminal.raw.split(LEAVE_SECOND_SCREEN)[0]
        if columns > 1:
            assert re.search(r"chords +-\d+", drawn)
            assert re.search(r"silence +-200", drawn)
        if "LC_ALL" in environment:
            assert terminal.raw.isascii()
        if "NO_COLOR" in environment:
            assert not COLOUR.search(terminal.raw)


@pytest.mark.parametrize("term", ["dumb", "unknown", ""])
def test_a_terminal_that_can_only_print_gets_lines(live: Daemon, term: str) -> None:
    with tail(live, "--count", "2", "--stream", "chords", environment={"TERM": term}) as terminal:
        assert terminal.end() == 0
        assert "\x1b" not in terminal.raw
        assert len(re.findall(r"chords#\d+  layer", terminal.raw)) == 2


def test_lines_can_be_asked_for(live: Daemon) -> None:
    with tail(live, "--lines", "--count", "1", columns=200) as terminal:
        assert terminal.end() == 0
        assert "\x1b" not in terminal.raw
        assert "layer 1,2 [" in terminal.text


def test_another_size_is_drawn_at_once(live: Daemon) -> None:
    with tail(live, columns=90, lines=12) as terminal:
        terminal.until(lambda: "dBFS" in terminal.text)
        terminal.resize(20, 5)
        terminal.until(lambda: bool(re.search(r"chords +-\d+dB", terminal.text)))
        before = len(terminal.raw)
        terminal.resize(120, 30)
        terminal.until(lambda: bool(re.search(r"chords +-\d+\.\d dBFS.{60,}s late", terminal.text)))
        assert len(SEQUENCES.sub("", terminal.raw[before:])) < 200 * 120 * 30
        terminal.type("\x03")
        assert terminal.end() == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_leaves_the_terminal_as_it_was(live: Daemon, number: signal.Signals) -> None:
    with tail(live) as terminal:
        terminal.until(lambda: "dBFS" in terminal.text)
        terminal.process.send_signal(number)
        assert terminal.end() in (128 + number, -number)
        assert_left_as_it_was(terminal)


def test_a_job_in_the_background_draws_nothing(live: Daemon) -> None:
    """Over the shell, for instance, to which the terminal belongs."""
    shell = ["bash", "-c", 'set -m; "$@" & read -r; fg', "bash"]
    with tail(live, "--count", "30", before=shell) as terminal:
        embedded = live.status().streams["chords"]["embedded"]
        live.until(lambda s: s.streams["chords"]["embedded"] > embedded + 4)
        while terminal.read(0.05):
            pass
        assert "\x1b" not in terminal.raw
        terminal.type("\n")
        terminal.until(lambda: "dBFS" in terminal.text)
        assert terminal.end() == 0
        assert_left_as_it_was(terminal)


def test_ctrl_z_and_back(live: Daemon) -> None:
    with tail(live) as terminal:
        terminal.until(lambda: "dBFS" in terminal.text)
        process = psutil.Process(terminal.process.pid)
        os.kill(terminal.process.pid, signal.SIGTSTP)
        terminal.until(lambda: process.status() == psutil.STATUS_STOPPED)
        assert_left_as_it_was(terminal)
        entered = terminal.raw.count(ENTER_SECOND_SCREEN)
        os.kill(terminal.process.pid, signal.SIGCONT)
        terminal.until(lambda: terminal.raw.count(ENTER_SECOND_SCREEN) > entered)
        terminal.type("\x03")
        assert terminal.end() == 130
        assert_left_as_it_was(terminal)


def test_events_stand_below_and_an_absence_above() -> None:
    with Daemon(*TINY, "--window", "1", "--hop", "0.25", "--source", "synth:chords") as daemon:
        daemon.until(lambda s: s.streams["chords"]["embedded"] > 0)
        with tail(daemon, lines=12) as terminal:
            terminal.until(lambda: "dBFS" in terminal.text)
            daemon.stop()
            terminal.until(lambda: "chords  stopping  reason=" in terminal.text)
            level, event = (
                next(row for row, text in enumerate(terminal.rows) if word in text) for word in ("dBFS", "stopping  reason=")
            )
            assert level < event
            terminal.until(lambda: terminal.rows[0].startswith("no status for "))
            terminal.type("\x03")
            assert terminal.end() == 130


@pytest.mark.parametrize("words", [["tail", "--last", "0"], ["status", "--watch"]], ids=["tail", "status"])
def test_foreign_text_is_text(words: list[str]) -> None:
    with lying_daemon() as (publish, control):
        connect = ["--connect", publish] if words[0] == "tail" else []
        with ScreenTerminal(*words, *connect, "--control", control, columns=200, lines=40) as terminal:
            shown = printable(EVIL)[:30]
            terminal.until(lambda: shown in terminal.text)
            for _ in range(20):
                terminal.read(0.1)
            terminal.type("\x03")
            assert terminal.end() == 130
            ours = SEQUENCES.sub("", terminal.raw).replace("\r\n", "").replace("^C", "")
            assert not ACTING & set(ours)
            assert not [row for row in terminal.raw.splitlines() if row.startswith(FORGED)]
            assert "\x1b]" not in terminal.raw
            assert "\x1b[2J" not in terminal.raw


def test_a_status_that_is_asked_again_and_again() -> None:
    with Daemon(*TINY, "--window", "1", "--hop", "0.25", "--source", "synth:chords") as daemon:
        daemon.until(lambda s: s.streams["chords"]["embedded"] > 0)
        with ScreenTerminal("status", "--watch", "--control", daemon.control) as terminal:
            terminal.until(lambda: "stream  chords: listening" in terminal.text)
            first = terminal.text
            assert re.match(r"\d\d:\d\d:\d\d  mertd \S+, running", first)
            terminal.until(lambda: terminal.text != first)
            daemon.stop()
            terminal.until(lambda: "no daemon answers at" in terminal.rows[0])
            assert re.search(r"the last status, of \d\d:\d\d:\d\d:", terminal.text), "old numbers are called old"
            terminal.type("\x03")
            assert terminal.end() == 130
            assert_left_as_it_was(terminal)
