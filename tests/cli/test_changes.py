"""Changes as a user meets them: events of a daemon while it listens, and `mertd changes` afterwards."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_process import PATIENCE_S, mertd, wait_until
from daemon_process import RATE, SHORT, Daemon, events, listening, write_wav
from memory.changes.made_streams import S
from memory.changes.test_live_changes import SECTIONS, message, run_of
from memory.stored import BOOTS
from mertd.cli.app import run
from mertd.cli.message_format import MessageFormatter
from mertd.memory.memory import Memory
from mertd.memory.store import Store
from mertd.text import printable
from mertd.wire import Event, Message
from messages import event

SECONDS = (24, 20, 20, 20)
"""Of the sections of the song; the last sounds like the first."""

EVIL = "\x1b[2Jroom\n"

JOINS = (24, 44, 64)
"""Seconds into the song."""

FILE_OPTIONS = ["--weights", "random:0?size=tiny", "--layers", "2", *SHORT, "--backend", "numpy", "--pace", "fast"]


def song() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Sounds of equal level, one after the other."""
    generator = np.random.default_rng(0)
    sections = []
    for number, seconds in zip((0, 1, 2, 0), SECONDS, strict=True):
        time = np.arange(seconds * RATE) / RATE
        tones = [np.sin(2 * np.pi * f * time) for f in ((220, 277, 330), (), (1_760, 2_217))[number]]
        sound = np.sum(tones, axis=0) if tones else generator.standard_normal(len(time))
        sound = sound + 0.05 * generator.standard_normal(len(time))
        sections.append(0.1 * sound / np.sqrt(np.square(sound).mean()))
    return np.concatenate(sections).astype(np.float32)


def told(messages: list[Message]) -> list[Event]:
    return [one for one in messages if isinstance(one, Event) and one.event in ("change", "return")]


def shown(folder: Path, *words: str) -> list[dict[str, Any]]:
    done = mertd("changes", "--memory", str(folder), "--json", *words)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_what_is_published_is_what_is_shown_afterwards(tmp_path: Path) -> None:
    """Also when the process that finds it is killed meanwhile, and over a restart of the daemon."""
    folder, path = tmp_path / "memory", tmp_path / "song.wav"
    write_wav(path, song())
    options = ["--name", "studio", "--source", f"file:{path}?name=song", *FILE_OPTIONS, "--remember", "--memory", folder]
    with Daemon(*options) as first:
        first.bound()
        wait_until(lambda: bool(told(first.published("event"))), PATIENCE_S, lambda: "no change was published")
        os.kill(first.pid("memory"), signal.SIGKILL)
        wait_until(
            lambda: len(events(first.published("event"), "song", "change")) == len(JOINS),
            PATIENCE_S,
            lambda: f"published: {told(first.published('event'))}",
        )
        heard = told(first.published("event"))
    with Daemon(*options, "--exit-at-end", endpoints=(first.publish, first.control)) as second:
        with listening(second, "event") as messages:
            second.exits(0, PATIENCE_S)
    heard += told(messages)

    changes = [one for one in heard if one.event == "change"]
    times = [section["start_ns"] for section in shown(folder) if section["begins"] in ("start", "gap")]
    assert len(times) == 2
    for number, one in enumerate(changes):
        join_ns = times[number // len(JOINS)] + JOINS[number % len(JOINS)] * S
        assert abs(one.time_ns - join_ns) <= one.detail["bound_ns"] == S / 2
        assert 0 < one.detail["delay_ns"] <= 4.5 * S
    assert len(changes) == 2 * len(JOINS)

    sections = [section for section in shown(folder) if section["begins"] == "change"]
    assert [(one.boot.hex(), one.epoch, one.index, one.time_ns) for one in changes] == [
        (section["boot"], section["epoch"], section["index"], section["start_ns"]) for section in sections
    ]
    for one, section in zip(changes, sections, strict=True):
        assert one.detail.items() <= section.items()
    returns = [one for one in heard if one.event == "return"]
    back = [section for section in sections if "like" in section]
    assert [(one.index, one.detail["like"], one.detail["similarity"]) for one in returns] == [
        (section["index"], section["like"], section["similarity"]) for section in back
    ]
    assert any(section["like"]["boot"] != section["boot"] for section in back), "a return to the run before"
    remembered = [one for one in Memory(folder).events() if one.event in ("change", "return")]
    assert sorted((one.boot, one.seq) for one in remembered) == sorted((one.boot, one.seq) for one in heard), "once each"
    assert Memory(folder).holes() == [], "the last message of a run is that it stops"


def test_sections_as_lines_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store(tmp_path) as store:
        store.append([message(one) for one in run_of(BOOTS[0], SECTIONS)])
    assert run(["changes", "--memory", str(tmp_path), "--to", "now"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(SECTIONS)
    assert lines[0].endswith("4 min 08 s  room  the first that is remembered")
    assert "± 15 s" in lines[1]
    assert ", like " in lines[3]
    assert "(similarity +0." in lines[3]
    assert run(["changes", "--memory", str(tmp_path), "--to", "now", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [section["begins"] for section in found] == ["start", *["change"] * 5]
    assert [section["end_ns"] for section in found[:-1]] == [section["start_ns"] for section in found[1:]]
    assert found[3]["like"] == {"boot": BOOTS[0].hex(), "first": 0, "last": 46, "start_ns": 0, "end_ns": found[0]["end_ns"]}


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["--since", "2h"], 0, "nothing is remembered from this time"),
        (["--since", "2h", "--from", "3h"], 2, "--since and --from exclude each other"),
        (["--from", "2h", "--to", "3h"], 2, "--to 3h is before 2h"),
        (["--stream", "hall"], 2, "--stream hall: nothing of this stream is remembered; choose one of room"),
        (["--since", "teatime"], 2, "'teatime' is not a time"),
    ],
)
def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, complaint: str) -> None:
    with Store(tmp_path) as store:
        store.append([message(one) for one in run_of(BOOTS[0], SECTIONS[:1])])
    assert run(["changes", "--memory", str(tmp_path), *words]) == code
    assert complaint in capsys.readouterr().err


def test_tail_says_it_in_words() -> None:
    detail = {"bound_ns": 15 * S, "strength": 0.7134, "delay_ns": 52 * S, "seq": 9, "space": "x"}
    line = MessageFormatter().event(event(event="change", detail=detail))
    assert line.endswith("room  change  strength 0.71  ±15 s  known 52.0 s later")
    like = {"boot": "00", "first": 1, "last": 2, "start_ns": 0, "end_ns": S}
    line = MessageFormatter().event(event(event="return", detail={"similarity": 0.9, "like": like}))
    assert line.endswith("similarity +0.90")
    for foreign in ({"similarity": "x", "like": like}, {"similarity": 0.9, "like": None}, {}):
        assert "similarity +" not in MessageFormatter().event(event(event="return", detail=foreign))


def test_a_strip_of_the_evening_at_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path) as store:
        store.append([message(one, EVIL) for one in run_of(BOOTS[0], SECTIONS)])
    words = ["changes", "--memory", str(tmp_path), "--to", "now"]
    assert run(words) == 0
    piped = capsys.readouterr().out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("mertd.cli.live_screen.terminal_size", lambda: (60, 24))
    assert run(words) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(piped)
    empty, head, novelty, marks, times, last = shown[len(piped) :].splitlines()
    assert (empty, last) == ("", "")
    assert head == f"{printable(EVIL)}: novelty; | change, < return"
    assert len(novelty) == len(times) == 60
    assert (marks.count("|"), marks.count("<")) == (3, 2)
    assert all("█▇▆▅▄".count(max(novelty[max(0, at - 1) : at + 2])) for at in range(len(marks)) if marks[at] != " ")
    assert run([*words, "--json"]) == 0
    assert all(json.loads(line) for line in capsys.readouterr().out.splitlines()), "nothing is drawn between JSON"
    monkeypatch.setattr("mertd.cli.live_screen.terminal_size", lambda: (10, 24))
    assert run(words) == 0
    assert capsys.readouterr().out == piped, "no room"
