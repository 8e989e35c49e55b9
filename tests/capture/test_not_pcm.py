"""What is not raw PCM is recognised by its first bytes, however they are cut; raw PCM of any kind passes."""

from __future__ import annotations

import functools
import io
import struct

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from example_counts import examples
from mertd.capture.not_pcm import EXAMINED_BYTES, NotPcmDetector, adts_frame_bytes, identify
from signals import wandering

RATE = 44_100
PIECE = np.repeat((wandering(1, RATE) * 0.5).astype(np.float32)[:, None], 2, axis=1)
FORMATS = {"WAV": "WAV", "RF64": "WAV", "W64": "Wave64", "AIFF": "AIFF", "CAF": "CAF", "AU": "AU", "FLAC": "FLAC", "OGG": "Ogg"}
FORMATS |= {"MP3": "MP3"}


@functools.cache
def written(format: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, PIECE, RATE, format=format)
    return file.getvalue()


@functools.cache
def encoded(container: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        rate = 48_000 if codec == "libopus" else RATE
        stream = output.add_stream(codec, rate=rate, layout="stereo")
        stream.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(PIECE.T), format="fltp", layout="stereo")
        frame.rate = RATE
        resampler = av.AudioResampler(stream.format, "stereo", rate, stream.codec_context.frame_size or 1152)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("format", FORMATS)
def test_what_libsndfile_writes(format: str) -> None:
    assert FORMATS[format] in identify(written(format)[:EXAMINED_BYTES])


CODED = [("adts", "aac", "AAC"), ("mp4", "aac", "MP4"), ("asf", "wmav2", "WMA"), ("webm", "libopus", "WebM")]
CODED += [("mp2", "mp2", "MPEG audio"), ("mpegts", "aac", "transport stream"), ("wv", "wavpack", "WavPack")]


@pytest.mark.parametrize(("container", "codec", "word"), CODED)
def test_what_ffmpeg_writes(container: str, codec: str, word: str) -> None:
    assert word in identify(encoded(container, codec)[:EXAMINED_BYTES])


@pytest.mark.parametrize("cut", [1, 17, 1_000, 5_003])
def test_a_radio_is_joined_within_a_frame(cut: int) -> None:
    assert "MP3" in identify(written("MP3")[2_000 + cut :][:EXAMINED_BYTES])
    assert "AAC" in identify(encoded("adts", "aac")[cut:][:EXAMINED_BYTES])


TEXTS = {
    b"#EXTM3U\n#EXTINF:-1,Radio\nhttp://radio/\n": "playlist",
    b"[playlist]\r\nFile1=http://radio/\r\n": "playlist",
    b"\n<!DOCTYPE html>\n<html>": "web page",
    b"HTTP/1.1 404 Not Found\r\n": "web server",
    b"ID3\x04\x00\x00\x00\x00\x0f\x76TIT2": "MP3",
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03abc": "gzip",
}


@pytest.mark.parametrize("text", TEXTS)
def test_what_a_web_server_sends_instead(text: bytes) -> None:
    assert TEXTS[text] in identify(text)


@pytest.mark.parametrize("size", [1, 7, 500, 1 << 16])
@pytest.mark.parametrize("format", ["WAV", "MP3"])
def test_how_the_bytes_are_cut_does_not_matter(size: int, format: str) -> None:
    data = written(format)
    detector = NotPcmDetector()
    assert any(detector.feed(data[at : at + size]) for at in range(0, EXAMINED_BYTES, size))


def test_bytes_that_come_later_are_not_examined() -> None:
    detector = NotPcmDetector()
    assert not detector.feed(bytes(EXAMINED_BYTES))
    assert not detector.feed(written("WAV"))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=examples(40))
def test_random_bytes_may_be_pcm(seed: int) -> None:
    assert identify(np.random.Generator(np.random.PCG64(seed)).bytes(EXAMINED_BYTES)) == ""


def chance_header(bit_rate: int, sample_rate: int) -> bytes:
    """Return four bytes that begin a frame of MP3."""
    return bytes((0xFF, 0xFB, bit_rate << 4 | sample_rate << 2, 0x64))


@given(st.integers(1, 14), st.integers(0, 2), st.integers(1, 400), st.integers(0, 399))
@settings(max_examples=examples(40))
def test_pcm_that_repeats_a_header_is_pcm(bit_rate: int, sample_rate: int, period: int, place: int) -> None:
    """A constant, or a tone with a whole number of frames in each period, one of which looks like a header."""
    frames = np.random.Generator(np.random.PCG64(period)).integers(0, 255, (period, 4), np.uint8)
    frames[place % period] = list(chance_header(bit_rate, sample_rate))
    assert identify((frames.tobytes() * (EXAMINED_BYTES // (4 * period) + 1))[:EXAMINED_BYTES]) == ""


@pytest.mark.parametrize("left", [-1, -257, -513, -1_025, -1_281, -3_073, -3_585])
def test_pcm_with_a_constant_channel_is_pcm(left: int) -> None:
    """The bytes FF FB of a constant -1025 begin every frame of PCM."""
    generator = np.random.Generator(np.random.PCG64(0))
    frames = np.stack([np.full(8_000, left), generator.integers(-2_000, 2_000, 8_000)], axis=1).astype("<i2")
    assert identify(frames.tobytes()[:EXAMINED_BYTES]) == ""


@pytest.mark.parametrize("scale", [1, 3, 100, 3_000, 32_767])
@pytest.mark.parametrize("dtype", ["u1", "<i2", "<i4", "<f4"])
def test_music_of_any_level_is_pcm(scale: int, dtype: str) -> None:
    samples = PIECE[:8_000] / np.abs(PIECE).max() * (scale if dtype != "<f4" else scale / 32_768)
    data = samples.astype(dtype).tobytes()
    for skip in range(4):
        assert identify(data[skip:][:EXAMINED_BYTES]) == ""


def test_one_header_or_four_are_chance() -> None:
    frame = chance_header(9, 1) + bytes(range(200)) + bytes(180)
    assert len(frame) == 384
    assert identify((frame * 4)[:-100] + bytes(9_000)) == ""


def test_the_length_of_an_adts_frame_is_in_its_header() -> None:
    length = 371
    head = struct.pack(">BBB", 0xFF, 0xF1, 0x50) + bytes(
        (0x80 | length >> 11, length >> 3 & 0xFF, (length & 7) << 5 | 0x1F, 0xFC)
    )
    assert adts_frame_bytes(head) == length
    assert adts_frame_bytes(head[:6]) == 0
