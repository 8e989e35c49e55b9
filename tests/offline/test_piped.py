"""What comes through a pipe: a sound file or raw PCM, at once or late, or never."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mertd.capture.address import file_address, parse
from mertd.capture.source import AudioSource
from mertd.errors import SourceError
from mertd.offline import piped
from mertd.offline.inputs import Input, find_inputs
from mertd.offline.piped import open_piped
from mertd.offline.source_windows import open_address
from signals import chord_progression

MUSIC = chord_progression(1.5)


def never() -> bool:
    return False


def frames(source: AudioSource) -> NDArray[np.float32]:
    try:
        return np.concatenate([block.frames for block in source.blocks() if block is not None])
    finally:
        source.close()


@contextmanager
def written(fifo: Path, *parts: bytes) -> Iterator[None]:
    """A FIFO into which another thread writes `parts`."""
    os.mkfifo(fifo)

    def write() -> None:
        with fifo.open("wb", buffering=0) as file:
            for part in parts:
                file.write(part)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        writer.join()


def named(word: object) -> Input:
    (item,) = find_inputs([str(word)], lambda _: None)
    return item


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
@pytest.mark.parametrize("form", ["{}", "pipe:{}", "file:{}"])
def test_a_sound_file_is_the_same_as_on_disk(tmp_path: Path, kind: str, form: str) -> None:
    on_disk = tmp_path / f"x.{kind.lower()}"
    soundfile.write(on_disk, MUSIC, 24_000, format=kind)
    content = on_disk.read_bytes()
    with written(tmp_path / "fifo", content[:3], content[3:50], content[50:]):
        heard = frames(open_piped(named(form.format(tmp_path / "fifo")), never))
    np.testing.assert_array_equal(heard, frames(open_address(file_address(str(on_disk)))))


@pytest.mark.parametrize("length", [1, 999, 4_096, 4_097, 36_000])
@pytest.mark.parametrize("format", ["u8", "s16le", "s24le", "f32le"])
def test_raw_pcm_arrives_whole(tmp_path: Path, length: int, format: str) -> None:
    octets = np.random.default_rng(length).integers(0, 255, length * 12, np.uint8)
    if format == "f32le":
        octets = np.frombuffer(MUSIC[:length].tobytes() * 3, np.uint8)
    with written(tmp_path / "fifo", octets.tobytes()):
        heard = frames(open_piped(named(f"pipe:{tmp_path / 'fifo'}?rate=1000&channels=1&format={format}"), never))
    width = {"u8": 1, "s16le": 2, "s24le": 3, "f32le": 4}[format]
    assert heard.shape == (length * 12 // width, 1)
    if format == "s16le":
        np.testing.assert_array_equal(heard[:, 0], np.frombuffer(octets.tobytes(), "<i2") / np.float32(32_768))


def test_raw_pcm_from_what_is_named_as_a_file_is_refused(tmp_path: Path) -> None:
    with written(tmp_path / "fifo", bytes(9_000)):
        with pytest.raises(
            SourceError, match=r"fifo: what it carries is no sound file; raw PCM is read from pipe:.*fifo\?rate="
        ):
            open_piped(named(tmp_path / "fifo"), never)


@pytest.mark.linux  # macOS does not tell a writer that brought nothing from one that never came
def test_a_pipe_that_brings_nothing(tmp_path: Path) -> None:
    with written(tmp_path / "fifo"):
        with pytest.raises(SourceError, match="fifo ended before anything came"):
            open_piped(named(tmp_path / "fifo"), never)


def test_an_idle_fifo_that_is_named_as_a_file_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piped, "WRITER_S", 0.1)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SourceError, match=r"no program has opened for writing in 0\.1 s; pipe:.*fifo waits until one does"):
        open_piped(named(tmp_path / "fifo"), never)


def test_a_writer_that_is_there_and_says_nothing_yet_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piped, "WRITER_S", 0.0)
    on_disk = tmp_path / "x.wav"
    soundfile.write(on_disk, MUSIC, 24_000)
    os.mkfifo(tmp_path / "fifo")
    both = os.open(tmp_path / "fifo", os.O_RDWR)
    looks = iter(range(100))

    def writes_late() -> bool:
        if next(looks) == 3:
            os.write(both, on_disk.read_bytes()[:50_000])
            os.close(both)
        return False

    source = open_piped(named(tmp_path / "fifo"), writes_late)
    assert len(frames(source)) > 20_000


@pytest.mark.parametrize("word", ["pipe:{}", "{}"])
def test_waiting_ends_when_it_is_to_stop(tmp_path: Path, word: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    looks = iter([False, False, True, True, True])
    with pytest.raises(SourceError):
        open_piped(named(word.format(tmp_path / "fifo")), lambda: next(looks))


def test_a_pipe_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        open_piped(named(f"pipe:{tmp_path}/none"), never)


def test_what_is_no_audio_after_all_is_named_as_the_user_named_it(tmp_path: Path) -> None:
    with written(tmp_path / "fifo", b"RIFF....WAVEno wave"):
        with pytest.raises(SourceError, match=r"fifo cannot be read as audio") as raised:
            open_piped(named(tmp_path / "fifo"), never)
    assert "/proc/self" not in str(raised.value)


def test_nothing_is_left_of_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    soundfile.write(tmp_path / "x.wav", MUSIC, 24_000)
    for nameless in (True, False):
        monkeypatch.setattr(piped, "DESCRIPTORS", Path("/proc/self/fd") if nameless else tmp_path / "none")
        with written(tmp_path / f"fifo{nameless}", (tmp_path / "x.wav").read_bytes()):
            source = open_piped(named(tmp_path / f"fifo{nameless}"), never)
        assert bool(list((tmp_path / "temporary").iterdir())) != nameless
        assert len(frames(source)) == len(MUSIC)
        assert not list((tmp_path / "temporary").iterdir())


def test_mix_is_that_of_the_address() -> None:
    item = named("pipe:-?mix=2")
    assert item.address.mix == "2"
    assert replace(file_address("x"), mix="2").mix == parse("file:x?mix=2").mix
