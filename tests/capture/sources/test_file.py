"""Sound files in common formats, damaged files, and files that are not audio."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from capture.from_url import settings_for
from mertd.capture import source as source_module
from mertd.capture.limits import MAX_BLOCK_VALUES
from mertd.capture.sources.file import FileSource
from mertd.errors import SourceError
from signals import chord_progression

Array = NDArray[np.float32]
RATE = 44_100
MUSIC = np.stack([chord_progression(2.0, RATE), 0.5 * chord_progression(2.0, RATE, seed=1)], axis=1).astype(np.float32)


def write(path: Path, samples: Array = MUSIC, **options: str) -> Path:
    soundfile.write(path, samples, RATE, **options)
    return path


def read(path: Path, realtime: bool = False) -> tuple[FileSource, Array]:
    source = FileSource(settings_for(f"file:{path}", realtime))
    frames = [block.frames for block in source.blocks() if block is not None]
    source.close()
    return source, np.concatenate(frames) if frames else np.zeros((0, source.channels), np.float32)


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.wav", {"subtype": "FLOAT"}, 0),
        ("a.wav", {"subtype": "PCM_16"}, 4e-5),
        ("a.wav", {"subtype": "PCM_U8"}, 1e-2),
        ("a.aiff", {"subtype": "PCM_24"}, 2e-7),
        ("a.flac", {"subtype": "PCM_24"}, 2e-7),
        ("a.ogg", {"subtype": "VORBIS"}, 0.1),
        ("a.mp3", {}, 0.1),
    ],
)
def test_formats(tmp_path: Path, name: str, options: dict[str, str], tolerance: float) -> None:
    source, frames = read(write(tmp_path / name, **options))
    assert (source.rate, source.channels) == (RATE, 2)
    assert name in source.description
    assert frames.dtype == np.float32
    assert len(frames) >= len(MUSIC)
    assert np.abs(frames[: len(MUSIC)] - MUSIC).max() <= tolerance
    assert not source.reopens


def test_mono_has_one_channel(tmp_path: Path) -> None:
    source, frames = read(write(tmp_path / "a.wav", MUSIC[:, 0], subtype="FLOAT"))
    assert source.channels == 1
    assert np.array_equal(frames, MUSIC[:, :1])


def test_an_empty_file_ends_at_once(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.wav", MUSIC[:0]))[1].shape == (0, 2)


def test_blocks_are_as_large_as_is_allowed(tmp_path: Path) -> None:
    """The more is done at a time, the less the threads that decode wait for each other."""
    samples = np.tile(MUSIC, (8, 1))
    source = FileSource(settings_for(f"file:{write(tmp_path / 'a.wav', samples)}"))
    sizes = [len(block.frames) for block in source.blocks() if block is not None]
    source.close()
    largest = MAX_BLOCK_VALUES // 2
    assert sizes == [largest, len(samples) - largest]


def test_at_real_time_pace_blocks_come_when_they_would_be_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that only sleeping advances."""

    class Clock:
        now = 100.0

        def monotonic(self) -> float:
            return self.now

        def sleep(self, seconds: float) -> None:
            assert 0 < seconds <= 0.1, "ten times a second it must be seen to live"
            self.now += seconds + 1e-6

    clock = Clock()
    monkeypatch.setattr(source_module, "time", clock)
    source = FileSource(settings_for(f"file:{write(tmp_path / 'a.wav')}", realtime=True))
    done, pulses = 0, 0
    for block in source.blocks():
        if block is None:
            pulses += 1
            continue
        done += len(block.frames)
        assert clock.now - 100 == pytest.approx(done / RATE, abs=1e-3), "no sooner than its last sample, and no later"
    source.close()
    assert done == len(MUSIC)
    assert pulses >= 20


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused_with_their_place(tmp_path: Path, value: float) -> None:
    samples = np.tile(MUSIC, (2, 1))
    samples[3 * RATE + RATE // 2, 1] = value
    samples[-1] = value
    source = FileSource(settings_for(f"file:{write(tmp_path / 'a.wav', samples, subtype='FLOAT')}"))
    blocks = source.blocks()
    block = next(blocks)
    assert block is not None
    np.testing.assert_array_equal(block.frames, samples[: 3 * RATE + RATE // 2], "what comes before it")
    with pytest.raises(SourceError, match=r"a\.wav.*not finite, at 3\.5 s") as refusal:
        next(blocks)
    source.close()
    assert not refusal.value.retry


@pytest.mark.parametrize("content", [b"", b"not audio at all", bytes(5_000), b"RIFF\x00\x00\x00\x00WAVE"])
def test_what_is_not_audio_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.wav cannot be read as audio: .*ffmpeg and pipe:-"):
        read(path)


def test_a_web_page_is_named_for_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"<!DOCTYPE html><title>404</title>")
    with pytest.raises(SourceError, match=r"a\.mp3 cannot be read as audio: it looks like a web page "):
        read(path)


def test_a_raw_file_is_refused_with_the_way_to_read_it(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(400))
    with pytest.raises(SourceError, match=r"a\.raw has no header; read raw PCM with pipe:.*a\.raw\?rate="):
        read(path)


def test_a_file_broken_off_in_the_middle_gives_what_it_has_or_says_so(tmp_path: Path) -> None:
    for name, options in (("a.wav", {"subtype": "PCM_16"}), ("a.flac", {}), ("a.ogg", {})):
        path = write(tmp_path / name, **options)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        try:
            frames = read(path)[1]
        except SourceError as error:
            assert name in str(error)  # noqa: PT017
            continue
        assert 0 < len(frames) < len(MUSIC)
        assert np.abs(frames - MUSIC[: len(frames)]).max() < 0.1


def test_a_file_damaged_in_the_middle_raises_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac")
    good = path.read_bytes()
    for at in range(len(good) // 8, len(good), len(good) // 8):
        path.write_bytes(good[:at] + b"\xff\x00" * 300 + good[at + 600 :])
        try:
            frames = read(path)[1]
        except SourceError:
            continue
        assert np.isfinite(frames).all()


def test_a_missing_file_is_reported_with_similar_names(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no file at .*song\.wav$"):
        read(tmp_path / "song.wav")
    (tmp_path / "song.flac").touch()
    with pytest.raises(SourceError, match=r"no file at .*song\.wav; there is song\.flac$"):
        read(tmp_path / "song.wav")
    with pytest.raises(SourceError, match="no file at"):
        read(tmp_path)
    with pytest.raises(SourceError, match="no file at"):
        read(tmp_path / "no" / "folder.wav")
