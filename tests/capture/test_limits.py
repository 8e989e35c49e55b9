"""The rate and channels that a header claims are checked before memory is allocated for them."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mertd.capture.address import parse
from mertd.capture.entry import open_source
from mertd.capture.limits import MAX_BLOCK_VALUES, MAX_CHANNELS, MAX_RATE, MIN_RATE, block_frames, check_format
from mertd.capture.reports import CaptureSettings
from mertd.errors import SourceError


def write_wav(path: Path, rate: int, channels: int, content_bytes: int) -> Path:
    """Write 16 bit PCM of zeros, as a sparse file, with a header that libsndfile would not write."""
    frame = 2 * channels
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * frame & 0xFFFFFFFF, frame & 0xFFFF, 16)
    head = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", content_bytes)
    with path.open("wb") as file:
        file.write(b"RIFF" + struct.pack("<I", len(head) + content_bytes) + head)
        file.truncate(file.tell() + content_bytes)
    return path


@pytest.mark.parametrize("rate", [1, MIN_RATE - 1, MAX_RATE + 1, 1_000_000_000, 2_000_000_000])
@pytest.mark.parametrize("realtime", [False, True])
def test_a_file_that_claims_an_absurd_rate_is_refused(tmp_path: Path, rate: int, realtime: bool) -> None:
    path = write_wav(tmp_path / "a.wav", rate, 1, 4_000)
    with pytest.raises(
        SourceError, match=rf"a\.wav: a sample rate of {rate} Hz is not supported, only 1000 to 768000 Hz"
    ) as it:
        open_source(CaptureSettings(parse(f"file:{path}"), realtime, start=0))
    assert not it.value.retry


@pytest.mark.parametrize(("rate", "channels", "most"), [(768_000, 65, 64), (96_000, 1_024, 512)])
def test_a_file_that_claims_too_many_channels_is_refused(tmp_path: Path, rate: int, channels: int, most: int) -> None:
    path = write_wav(tmp_path / "a.wav", rate, channels, 4 * channels)
    with pytest.raises(SourceError, match=rf"{channels} channels at {rate} Hz are not supported, only 1 to {most}"):
        open_source(CaptureSettings(parse(f"file:{path}"), realtime=False, start=0))


@pytest.mark.parametrize(("rate", "channels"), [(MIN_RATE, 1), (MAX_RATE, 64), (48_000, MAX_CHANNELS), (44_100, 2)])
def test_the_ends_of_the_range_are_read(tmp_path: Path, rate: int, channels: int) -> None:
    source = open_source(
        CaptureSettings(parse(f"file:{write_wav(tmp_path / 'a.wav', rate, channels, 20 * channels)}"), False, 0)
    )
    (block,) = source.blocks()
    source.close()
    assert block is not None
    assert block.frames.shape == (10, channels)


def test_a_rate_of_two_gigahertz_takes_no_memory(tmp_path: Path) -> None:
    """A block of a second at that rate would take gigabytes."""
    path = write_wav(tmp_path / "a.wav", 2_000_000_000, 1, 600_000_000)
    program = (
        "import resource, sys; from mertd.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))\n"
        "sys.argv = ['mertd', 'embed', '--weights', 'random:0?size=tiny', '--layers', '1', '--backend', 'numpy', sys.argv[1]]\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3, done.stderr
    assert "a sample rate of 2000000000 Hz is not supported" in done.stderr


@given(st.integers(MIN_RATE, MAX_RATE), st.integers(1, MAX_CHANNELS), st.booleans())
def test_blocks_are_bounded_and_never_empty(rate: int, channels: int, realtime: bool) -> None:
    frames = block_frames(rate, channels, realtime)
    assert 1 <= frames <= rate
    assert frames * channels <= MAX_BLOCK_VALUES


@given(st.integers(), st.integers())
def test_only_supported_formats_pass(rate: int, channels: int) -> None:
    try:
        check_format(rate, channels)
    except SourceError as error:
        assert str(rate) in str(error)  # noqa: PT017
    else:
        assert MIN_RATE <= rate <= MAX_RATE
        assert 1 <= channels <= MAX_CHANNELS
