"""What the words of a command line name: files, folders, FIFOs, addresses; nothing that could wait is opened."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mertd.capture.not_pcm import EXAMINED_BYTES
from mertd.offline.inputs import Input, find_inputs
from mertd.offline.sound_names import begins_like_sound


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def sound(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"RIFF....WAVE")


def found(*words: str) -> tuple[list[Input], list[str]]:
    told: list[str] = []
    return find_inputs(words, told.append), told


def labels(*words: str) -> list[str]:
    return [item.label for item in found(*words)[0]]


def test_a_folder_is_read_in_the_order_of_bytes_and_what_is_no_sound_is_counted() -> None:
    sound("songs/b.wav", "songs/a/z.flac", "songs/a/10.mp3", "songs/a/9.mp3", "songs/B.wav", "songs/é.wav", "songs/.hidden.wav")
    sound("songs/no-suffix", "songs/odd.bin")
    for name in ("cover.jpg", "a/cover.jpg", "notes", "a/list.txt"):
        Path("songs", name).write_bytes(b"no sound")
    os.mkfifo("songs/idle.wav")
    inputs, told = found("songs")
    assert [item.label for item in inputs] == [
        f"songs/{name}" for name in ("B.wav", "a/10.mp3", "a/9.mp3", "a/z.flac", "b.wav", "no-suffix", "odd.bin", "é.wav")
    ]
    assert not any(item.problem for item in inputs)
    assert told == ["songs: 6 files (2 .jpg, 1 .txt, 1 FIFO, 1 hidden, 1 without a suffix) skipped as no audio"]


def test_links_are_followed_and_no_folder_is_read_twice() -> None:
    sound("songs/a/1.wav", "elsewhere/2.wav")
    Path("songs/again").symlink_to("a")
    Path("songs/circle").symlink_to("..")
    Path("songs/z").symlink_to("../elsewhere")
    Path("songs/gone.wav").symlink_to("/nowhere/x.wav")
    Path("songs/gone.txt").symlink_to("/nowhere/x.txt")
    Path("songs/self.wav").symlink_to("self.wav")
    inputs, told = found("songs")
    problems = {item.label: item.problem for item in inputs}
    assert problems.pop("songs/gone.wav") == "is a link to /nowhere/x.wav: No such file or directory"
    assert "symbolic links" in problems.pop("songs/self.wav")
    assert sorted(problems) == ["songs/a/1.wav", "songs/circle/elsewhere/2.wav"], "each real folder once, by its first name"
    assert told == ["songs: 1 file (1 broken link) skipped as no audio"]


def test_a_folder_that_holds_nothing_or_cannot_be_read_is_a_problem_of_its_own() -> None:
    sound("ok.wav")
    Path("empty").mkdir()
    (empty, ok), _ = found("empty", "ok.wav")
    assert (empty.label, empty.problem) == ("empty", "this folder holds no sound files")
    assert not ok.problem


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "this name is empty"),
        ("x" * 300, "File name too long"),
        ("/dev/zero", "is a character device"),
        ("nothing.wav", "this file is empty"),
        ("dangling?.wav", "is a link to /nowhere, which does not exist"),
        ("synth:chrods", "did you mean 'chords'"),
        ("ok.wav/x.wav", "Not a directory"),
    ],
)
def test_what_is_wrong_with_one_name_is_a_problem_of_it_alone(name: str, problem: str) -> None:
    sound("ok.wav")
    Path("nothing.wav").touch()
    Path("dangling?.wav").symlink_to("/nowhere")
    before, bad, after = found("ok.wav", name, "ok.wav")[0]
    assert problem in bad.problem
    assert not before.problem
    assert not after.problem
    assert (before.key, after.key) == ((b"ok.wav", 1), (b"ok.wav", 2))
    assert (before.address.name, after.address.name) == ("ok", "ok-2")


@pytest.mark.parametrize(
    "name", ["caf\udce9.wav", "~x.wav", "who?.wav", "a?mix=1.wav", "device:x.wav", "pipe:-", "-x.wav", "a:b.wav"]
)
def test_the_name_of_a_file_is_never_parsed(name: str) -> None:
    sound(name)
    (item,) = found(name)[0]
    assert item.label == name
    assert not item.problem
    assert item.address.kind == "file"
    assert Path(item.address.target).is_file()
    assert item.address.mix == "mean"
    assert item.fingerprint() is not None


def test_home_is_meant_where_no_file_has_that_name() -> None:
    sound("home/a.wav")
    (item,) = found("~/a.wav")[0]
    assert item.fingerprint() is not None
    (item,) = found("~no-such-user/a.wav")[0]
    assert item.fingerprint() is None, "no such user is no error of Python's"


def test_addresses_are_those_of_a_daemon() -> None:
    sound("a.wav")
    os.mkfifo("fifo")
    items, _ = found(
        "file:a.wav?mix=1", "synth:tone?seconds=3", "synth:tone", "pipe:fifo?rate=8000", "fifo", "device:X", "-", "pipe:-"
    )
    assert [item.address.kind for item in items] == ["file", "synth", "synth", "pipe", "pipe", "device", "pipe", "pipe"]
    assert [item.is_live for item in items] == [False, False, True, True, True, True, True, True]
    assert [item.may_be_raw for item in items] == [False, False, False, True, False, False, True, True]
    assert [bool(item.problem) for item in items] == [False] * 7 + [True], "standard input can be read only once"
    assert items[0].address.mix == "1"


def test_names_of_streams_stay_distinct_and_short() -> None:
    long = "x" * 80 + ".wav"
    sound("a/1.wav", "b/1.wav", "c/1.wav", "1-2.wav", f"a/{long}", f"b/{long}")
    names = [item.address.name for item in found("a/1.wav", "1-2.wav", "b/1.wav", "c/1.wav", f"a/{long}", f"b/{long}")[0]]
    assert names == ["1", "1-2", "1-3", "1-4", "x" * 63, "x" * 61 + "-2"]


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "CAF", "W64", "AU", "RF64"])
def test_sound_files_are_recognised_by_their_first_bytes(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 48_000), 24_000, format=kind)
    assert begins_like_sound(path.read_bytes()[:EXAMINED_BYTES])


def test_raw_pcm_is_hardly_ever_taken_for_a_sound_file() -> None:
    generator = np.random.default_rng(0)
    for level in (1, 30, 1_000, 20_000):
        for _ in range(60):
            assert not begins_like_sound(generator.normal(0, level, 2_048).astype("<i2").tobytes())
