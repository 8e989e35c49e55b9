"""Every sample of a file is heard or said to be missing, whatever its header claims."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from capture.from_url import settings_for
from capture.sound_files.makers import RATE, SECONDS, decode_at_once, encode, hear, music, write_wav
from mertd.capture.source import COMPLETE
from mertd.capture.sources.file import FileSource, in_blocks
from mertd.errors import SourceError

FRAMES = round(SECONDS * RATE)


def patched(path: Path, at: int, content: bytes) -> Path:
    data = bytearray(path.read_bytes())
    data[at : at + len(content)] = content
    path.write_bytes(data)
    return path


def data_size_at(path: Path) -> int:
    return path.read_bytes().index(b"data") + 4


# Bit-exactness: what libsndfile decodes whole


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *[("a.wav", ("-c:a", codec)) for codec in ("pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_u8")],
        *[("a.wav", ("-c:a", codec)) for codec in ("pcm_mulaw", "pcm_alaw", "adpcm_ms", "adpcm_ima_wav")],
        ("a.w64", ()),
        ("a.wav", ("-rf64", "always")),
        ("a.caf", ()),
        ("a.aiff", ()),
        ("a.au", ()),
        ("a.flac", ()),
        ("a.flac", ("-sample_fmt", "s32")),
        ("a.ogg", ("-c:a", "libvorbis")),
        ("a.opus", ("-c:a", "libopus")),
        ("a.mp3", ("-c:a", "libmp3lame")),
        ("a.mp3", ("-c:a", "libmp3lame", "-ar", "22050", "-ac", "1")),  # a seek between blocks garbles it
    ],
)
def test_what_libsndfile_reads_whole_is_exactly_what_it_reads(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    path = encode(tmp_path / name, *options)
    for realtime in (False, True):
        if realtime and not name.endswith("mp3"):
            continue  # the pace matters only to how much is asked for at a time
        frames, report, _ = hear(path) if not realtime else hear_paced(path)
        assert np.array_equal(frames, decode_at_once(path))
        assert report == COMPLETE


def hear_paced(path: Path) -> tuple[np.ndarray, object, object]:
    """Decode as in real time, without the waiting: in blocks of 50 ms."""
    from mertd.capture.sound_files.recording import Recording

    recording = Recording(path)
    blocks = list(in_blocks(recording.pieces(), recording.rate // 20))
    report = recording.end_report
    recording.close()
    return np.concatenate(blocks), report, recording


@given(sizes=st.lists(st.integers(0, 500), max_size=30), size=st.integers(1, 700))
def test_blocks_hold_the_same_frames_however_they_are_cut(sizes: list[int], size: int) -> None:
    frames = np.arange(2 * sum(sizes), dtype=np.float32).reshape(-1, 2)
    pieces = np.split(frames, np.cumsum(sizes)[:-1]) if sizes else []
    blocks = list(in_blocks(iter(pieces), size))
    assert all(len(block) == size for block in blocks[:-1])
    assert np.array_equal(np.concatenate(blocks) if blocks else frames, frames)


# What libsndfile leaves out


def test_mp3_without_a_length(tmp_path: Path) -> None:
    loud = np.concatenate([np.random.default_rng(0).uniform(-0.5, 0.5, (2 * RATE, 2)).astype(np.float32), 0.1 * music()])
    path = encode(tmp_path / "a.mp3", "-q:a", "2", "-write_xing", "0", source=write_wav(tmp_path / "s.wav", loud))
    frames, report, _ = hear(path)
    assert len(frames) >= len(loud)
    assert report == COMPLETE


@pytest.mark.parametrize(
    ("name", "codec", "tolerance"),
    [("ogg", "libvorbis", 0), ("opus", "libopus", 0), ("flac", "flac", 0), ("mp3", "libmp3lame", 2 * 1152 + 1105)],
)
def test_recordings_one_after_the_other(tmp_path: Path, name: str, codec: str, tolerance: int) -> None:
    first = encode(tmp_path / f"a.{name}", "-c:a", codec)
    second = encode(tmp_path / f"b.{name}", "-c:a", codec, source=write_wav(tmp_path / "b.wav", music(2.0, seed=3)))
    both = tmp_path / f"both.{name}"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    frames, report, source = hear(both)
    parts = np.concatenate([decode_at_once(first), decode_at_once(second)])
    assert 0 <= len(frames) - len(parts) <= tolerance
    if not tolerance:
        assert np.array_equal(frames, parts)
    assert report == COMPLETE
    assert source.channels == 2


@pytest.mark.parametrize(
    ("name", "codec"), [("ogg", "libvorbis"), ("opus", "libopus"), ("flac", "flac"), ("mp3", "libmp3lame")]
)
def test_a_second_recording_of_another_rate_and_channels(tmp_path: Path, name: str, codec: str) -> None:
    first = encode(tmp_path / f"a.{name}", "-c:a", codec)
    rate = "24000"
    second = encode(tmp_path / f"b.{name}", "-c:a", codec, "-ar", rate, "-ac", "1")
    both = tmp_path / f"both.{name}"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    frames, report, source = hear(both)
    assert frames.shape[1] == 2
    assert len(frames) / source.rate == pytest.approx(2 * SECONDS, abs=0.1)
    later = frames[round(1.2 * len(frames) / 2) :]
    assert np.abs(later).max() > 0.05, "it is heard"
    assert np.array_equal(later[:, 0], later[:, 1]), "a mono part is on every channel"
    assert report == COMPLETE


def test_flac_of_unknown_length(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.flac")
    expected = decode_at_once(path)
    total_at = 8 + 13  # mark and block header, then the byte with the upper four bits of the number of samples
    patched(path, total_at, bytes([path.read_bytes()[total_at] & 0xF0, 0, 0, 0, 0]))
    frames, report, _ = hear(path)
    assert np.array_equal(frames, expected)
    assert report == COMPLETE


@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF, 0x7FFF_FFFF - 36, 0x8000_0000])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_wav_whose_header_was_never_finished(tmp_path: Path, size: int, subtype: str) -> None:
    path = write_wav(tmp_path / "a.wav", subtype=subtype)
    expected = decode_at_once(path)
    if subtype == "FLOAT":  # the chunk after the samples is written by libsndfile for floating point only
        expected = expected[:FRAMES]
    patched(path, data_size_at(path), struct.pack("<I", size))
    frames, report, _ = hear(path)
    assert np.array_equal(frames[:FRAMES], expected)
    assert report.reason == ""


@pytest.mark.parametrize("mark", [b"RIFF", b"ID3\x04\0\0\0\0\x02\0" + bytes(256) + b"RIFF"])
def test_a_tag_before_the_header(tmp_path: Path, mark: bytes) -> None:
    path = write_wav(tmp_path / "a.wav")
    expected = decode_at_once(path)
    path.write_bytes(mark + path.read_bytes()[4:])
    frames, report, _ = hear(path)
    assert np.array_equal(frames, expected)
    assert report == COMPLETE


@pytest.mark.parametrize(
    ("name", "codec"), [("m4a", "aac"), ("m4a", "alac"), ("aac", "aac"), ("wma", "wmav2"), ("mka", "libvorbis")]
)
def test_formats_of_ffmpeg(tmp_path: Path, name: str, codec: str) -> None:
    frames, report, source = hear(encode(tmp_path / f"a.{name}", "-c:a", codec))
    assert len(frames) / source.rate == pytest.approx(SECONDS, abs=0.05)
    if name == "m4a":
        assert len(frames) == FRAMES, "without the encoder's delay and padding"
    assert report == COMPLETE
    reference = music()
    length = min(len(frames), FRAMES) - 4096
    middle = frames[2048 : 2048 + length // 2, 0]
    shifts = range(0, 6144) if name in ("aac", "wma") else range(2048 - 64, 2048 + 65)
    best = max(float(np.corrcoef(middle[:8192], reference[s : s + 8192, 0])[0, 1]) for s in shifts)
    assert best > 0.9


def test_the_first_of_several_tracks_is_heard_and_the_others_are_mentioned(tmp_path: Path) -> None:
    other = write_wav(tmp_path / "b.wav", music(seed=5))
    path = encode(tmp_path / "a.m4a", "-i", str(other), "-map", "0", "-map", "1", "-c:a", "alac")
    frames, report, _ = hear(path)
    assert np.abs(frames - music()).max() < 1e-4
    assert report.reason == ""
    assert any("2 audio tracks" in hint for hint in report.hints)


# What is missing is said


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", ()),
        ("a.wav", ("-c:a", "adpcm_ms")),
        ("a.w64", ()),
        ("a.aiff", ()),
        ("a.au", ()),
        ("a.caf", ()),
        ("a.flac", ()),
        ("a.mp3", ("-c:a", "libmp3lame")),
        ("a.mka", ("-c:a", "libvorbis")),
        ("a.m4a", ("-c:a", "aac", "-movflags", "faststart")),
    ],
)
def test_a_file_that_was_cut_says_how_much_is_missing(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    path = encode(tmp_path / name, *options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    frames, report, source = hear(path)
    assert report.reason
    assert report.missing_s == pytest.approx(SECONDS - len(frames) / source.rate, abs=0.15)
    assert len(frames) > 0.3 * SECONDS * source.rate


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.ogg", ("-c:a", "libvorbis")), ("a.opus", ("-c:a", "libopus")), ("a.aac", ()), ("a.mp3", ("-write_xing", "0"))],
)
def test_a_cut_file_that_knows_no_length_says_that_it_is_cut(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    path = encode(tmp_path / name, *options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10 + 1])
    frames, report, source = hear(path)
    assert report.reason
    assert report.missing_s > 0
    assert 0 < len(frames) < FRAMES * source.rate / RATE


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.flac", ()),
        ("a.ogg", ("-c:a", "libvorbis")),
        ("a.opus", ("-c:a", "libopus")),
        ("a.mp3", ("-c:a", "libmp3lame")),
        ("a.aac", ()),
        ("a.mka", ("-c:a", "libopus")),
    ],
)
def test_damage_in_the_middle_is_said(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    path = encode(tmp_path / name, *options)
    patched(path, path.stat().st_size // 2, b"\xff\x00" * 300)
    frames, report, source = hear(path)
    assert report.reason
    assert report.missing_s > 0
    assert np.isfinite(frames).all()
    assert len(frames) > 0.5 * SECONDS * source.rate, "what follows the damage is heard"


def test_a_wav_that_is_longer_than_its_header_claims(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav")
    patched(path, data_size_at(path), struct.pack("<I", RATE * 4))
    frames, report, _ = hear(path)
    assert len(frames) == RATE
    assert report.missing_s == pytest.approx(SECONDS - 1, abs=1e-3)
    assert "repair the header" in report.reason


@pytest.mark.parametrize(
    "tail", [b"TAG" + bytes(125), bytes(5_000), b"LIST" + struct.pack("<I", 8) + b"INFOabcd", b"APETAGEX" + b"x" * 100]
)
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3"])
def test_tags_and_padding_after_the_audio_are_not_audio(tmp_path: Path, name: str, tail: bytes) -> None:
    path = encode(tmp_path / name)
    expected = decode_at_once(path)
    if name == "a.mp3" and tail.startswith(b"LIST"):
        pytest.skip("no program appends chunks to MP3")
    path.write_bytes(path.read_bytes() + tail)
    frames, report, _ = hear(path)
    assert np.array_equal(frames, expected)
    assert report == COMPLETE


def test_one_sample_and_none(tmp_path: Path) -> None:
    for count in (0, 1):
        frames, report, _ = hear(write_wav(tmp_path / "a.wav", music()[:count]))
        assert len(frames) == count
        assert report.reason == ""


def test_what_is_written_while_the_file_is_read_is_heard(tmp_path: Path) -> None:
    """A recorder that has not yet written the size appends."""
    from mertd.capture.sound_files.recording import Recording

    path = patched(write_wav(tmp_path / "a.wav"), 0, b"RIFF")
    patched(path, data_size_at(path), bytes(4))
    recording = Recording(path)
    pieces = recording.pieces()
    heard = [next(pieces)]
    more = (music(1.0, seed=9) * 30_000).astype("<i2")
    with path.open("ab") as file:
        file.write(more.tobytes())
    heard += list(pieces)
    recording.close()
    assert sum(map(len, heard)) == FRAMES + len(more)
    assert np.array_equal(heard[-1][-100:], more[-100:].astype(np.float32) / 32_768)


@pytest.mark.parametrize(
    "content", [b"#EXTM3U\n#EXTINF:3,\na.wav\n#EXT-X-ENDLIST\n", b"ffconcat version 1.0\nfile a.wav\n", b"<html></html>" * 99]
)
def test_a_file_that_names_other_files_opens_none_of_them(tmp_path: Path, content: bytes) -> None:
    write_wav(tmp_path / "a.wav")
    path = tmp_path / "list.mp3"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"list\.mp3 cannot be read as audio"):
        hear(path)


@pytest.mark.parametrize(
    ("name", "codec"), [("caf", "pcm_s16be"), ("w64", "pcm_s16le"), ("wav", "pcm_s24le"), ("ogg", "libvorbis")]
)
def test_a_forged_header_is_an_error_or_audio(tmp_path: Path, name: str, codec: str) -> None:
    """Every byte of the header, at its extremes; a chunk may claim to be longer than any file."""
    path = encode(tmp_path / f"a.{name}", "-c:a", codec, "-t", "0.1")
    good = path.read_bytes()
    for at in range(0, min(len(good), 120)):
        for value in (0, 0x7F, 0xFF):
            path.write_bytes(good[:at] + bytes([value]) + good[at + 1 :])
            try:
                frames, _, _ = hear(path)
            except SourceError:
                continue
            assert np.isfinite(frames).all()


# What the levels suggest


def test_channels_that_cancel_and_silence_get_a_hint(tmp_path: Path) -> None:
    samples = music()
    samples[:, 1] = -samples[:, 0]
    (hint,) = hear(write_wav(tmp_path / "a.wav", samples, subtype="FLOAT"))[1].hints
    assert "out of phase" in hint
    assert "?mix=1" in hint
    (hint,) = hear(write_wav(tmp_path / "b.wav", 0 * samples))[1].hints
    assert "zero" in hint


def test_a_silent_channel_beside_others_gets_a_hint(tmp_path: Path) -> None:
    samples = np.zeros((4_000, 3), np.float32)
    samples[:, 1] = 0.1
    path = write_wav(tmp_path / "a.wav", samples)
    hints = {}
    for mix in ("1", "2", "active"):
        source = FileSource(settings_for(f"file:{path}?mix={mix}"))
        assert sum(len(block.frames) for block in source.blocks() if block) == 4_000
        hints[mix] = source.end_report.hints
        source.close()
    assert hints["1"] == ("all samples of channel 1 are zero, but not those of channel 2; hear it with ?mix=2",)
    assert not hints["2"]
    assert not hints["active"]


def test_a_name_need_not_be_text(tmp_path: Path) -> None:
    path = tmp_path / "a\udcff.flac"
    soundfile.write(tmp_path / "a.flac", music(), RATE)
    (tmp_path / "a.flac").rename(path)
    assert len(hear(path)[0]) == FRAMES


def test_without_av_the_error_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.m4a")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SourceError, match=r"the package av, which reads this file, is not installed.*uv sync"):
        hear(path)
    assert len(hear(write_wav(tmp_path / "b.wav"))[0]) == FRAMES, "a WAV file needs none"
