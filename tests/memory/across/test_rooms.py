from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mertd
from memory.across.made_rooms import BEGIN_NS, Room, heard, music
from memory.stored import small
from mertd.cli.app import run
from mertd.memory.across.rooms import HeardTwice, chosen_keys
from mertd.memory.across.track import RawTrack
from mertd.memory.across.track_reading import read_track
from mertd.memory.changes.stream_reading import stream_keys
from mertd.memory.store import Store
from mertd.wire import Embedding, Span, Time
from messages import MODEL

LAG_S = 4.9


def messages(track: RawTrack, number: int, daemon: str, stream: str, space: str = MODEL.space) -> list[Embedding]:
    """The windows of a stream as a daemon publishes them."""
    found = []
    for seq, (middle_ns, vector) in enumerate(zip(track.middle_ns.tolist(), track.vectors, strict=True)):
        start_ns = middle_ns - track.window_ns // 2
        first = (start_ns - BEGIN_NS) * 24 // 1_000_000
        found.append(
            small(
                seq,
                stream,
                daemon=daemon,
                boot=bytes([number]) * 16,
                vector=vector[None],
                window=Span(first, first + track.window_ns * 24 // 1_000_000, 24_000),
                time=Time(start_ns, start_ns + track.window_ns, 2_000_000, 0.0),
                model=replace(MODEL, space=space),
            )
        )
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hall, a kitchen that hears it later, a cellar with music of its own, and the hall again in another space."""
    path = tmp_path_factory.mktemp("memory")
    frames = music(400, 1)
    hall, kitchen = heard(frames, Room(seed=1)), heard(frames, Room(seed=2, lag_s=LAG_S))
    with Store(path, max_file=150_000) as store:
        store.append(messages(kitchen, 1, "one", "room"))
        store.append(messages(hall, 2, "two", "room"))
        store.append(messages(heard(music(400, 2), Room(seed=3)), 3, "two", "cellar"))
        store.append(messages(hall, 4, "three", "other", "another"))
    assert len(list(path.glob("*.sqlite"))) >= 2
    return path


def names(found: list[HeardTwice]) -> list[tuple[str, str]]:
    return [
        (f"{heard.first.stream} of {heard.first.daemon}", f"{heard.second.stream} of {heard.second.daemon}") for heard in found
    ]


def test_the_memory_tells_which_room_was_first(folder: Path) -> None:
    found = mertd.Memory(folder).across(within_s=120)
    assert names(found) == [("room of two", "room of one")]
    (pair,) = found
    assert pair.order_known
    assert pair.first.space == MODEL.space
    assert abs(pair.sound.lag_ns / 1e9 - LAG_S) <= pair.sound.bound_ns / 1e9
    assert abs(pair.sound.start_ns - BEGIN_NS) < 16e9, "seen from the hall, though the kitchen comes first in the alphabet"
    assert mertd.Memory(folder).across(within_s=2) == []
    assert mertd.Memory(folder).across(streams=("cellar",)) == []
    assert mertd.Memory(folder).across(until_ns=BEGIN_NS + 10**10) == []


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["similar", "--across", "--memory", str(folder), "--from", "2026-01-01", "--within", "120"]
    assert run(words) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "room of two, and room of one 4." in line
    assert "s later  by chance " in line
    assert "UNCERTAIN" not in line
    assert run([*words, "--json", "--stream", "room", "--daemon", "one", "--daemon", "two"]) == 0
    (told,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert told["first"] == {"daemon": "two", "stream": "room"}
    assert told["second"] == {"daemon": "one", "stream": "room"}
    assert told["order_known"] is True
    assert told["also_ns"] == []
    assert told["space"] == MODEL.space


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["--now"], 2, "without --now; leave it out"),
        (["--count", "3"], 2, "without --count; leave it out"),
        (["--layers", "3"], 2, "without --layers; leave it out"),
        (["--stream", "attic"], 2, "--stream attic: nothing of this name is remembered; choose one of cellar, other, room"),
        (["--daemon", "four"], 2, "--daemon four: nothing of this name"),
        (["--since", "2h", "--from", "3h"], 2, "exclude each other"),
        (["--from", "2026-02-01", "--to", "2026-01-01"], 2, "is before 2026-02-01"),
        (["--stream", "cellar"], 0, "fewer than two streams of one space"),
        (["--from", "2030-01-01"], 0, "too little time in common"),
        (["--from", "2026-01-01", "--within", "2"], 0, "no two streams heard the same within 2 s"),
    ],
)
def test_what_the_command_says(
    folder: Path, words: list[str], code: int, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["similar", "--across", "--memory", str(folder), *words]) == code
    told = capsys.readouterr()
    assert complaint in told.err
    assert not told.out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--since", "2h"], "--since needs --across"),
        (["--daemon", "one"], "--daemon needs --across"),
        (["--within", "600"], "--within needs --across"),
        (["--weights", "random:0"], "--weights is for a sound file"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    folder: Path, words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["similar", "--now", "--memory", str(folder), *words]) == 2
    assert complaint in capsys.readouterr().err


def test_the_windows_of_a_time_are_those_that_begin_in_it(folder: Path) -> None:
    memory = mertd.Memory(folder)
    (key,) = chosen_keys(stream_keys(folder), ("room",), ("two",))
    number = next(number for number, name in memory.streams().items() if name == ("two", "room"))
    for since_s, until_s in ((0, 400), (-10, 33), (33, 120.5), (391, 10_000), (50, 50)):
        since_ns, until_ns = (BEGIN_NS + round(seconds * 1e9) for seconds in (since_s, until_s))
        track = read_track(folder, key, since_ns, until_ns)
        block = memory.arrays(MODEL.space)
        rows = (block.streams == number) & (block.start_ns >= since_ns) & (block.start_ns < until_ns)
        expected = (block.start_ns + block.end_ns)[rows] // 2
        assert ([] if track is None else track.middle_ns.tolist()) == expected.tolist()
        if track is not None:
            assert np.array_equal(track.vectors, block.vectors[rows])
            newest = read_track(folder, key, since_ns, until_ns, 3)
            assert newest is not None
            assert newest.middle_ns.tolist() == expected[-3:].tolist()


@pytest.mark.slow
def test_vectors_of_several_layers(tmp_path: Path) -> None:
    frames = music(300, 5)
    spread = np.random.default_rng(0).standard_normal((24, 1_500)).astype(np.float32)
    with Store(tmp_path) as store:
        for number, lag_s in enumerate((0.0, 11.3)):
            track = heard(frames, Room(seed=number, lag_s=lag_s))
            wide = RawTrack(track.middle_ns, track.error_ns, track.window_ns, track.vectors @ spread)
            store.append(messages(wide, number, "one", f"room{number}"))
    (pair,) = mertd.Memory(tmp_path).across(within_s=60)
    assert abs(pair.sound.lag_ns / 1e9 - 11.3) <= pair.sound.bound_ns / 1e9
