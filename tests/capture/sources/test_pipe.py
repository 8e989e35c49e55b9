"""Raw audio through real pipes: every format, and writers that are slow, fast, or stop within a frame."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from capture.from_url import settings_for
from example_counts import examples
from mertd.capture.address import PCM_FORMATS, parse
from mertd.capture.clock_pair import ClockPair
from mertd.capture.reports import CaptureSettings
from mertd.capture.source import Block
from mertd.capture.sources import pipe
from mertd.capture.sources.pipe import MAX_LEAD_S, RATE_TOLERANCE, PipeSource, to_float
from mertd.errors import SourceError

Array = NDArray[np.float32]
RAMP = np.arange(-3_000, 3_000, dtype="<i2")


def through(url: str, write: Callable[[int], None], realtime: bool = False) -> Array:
    """Return what is read from a pipe into which a thread writes with `write`."""
    ours, theirs = os.pipe()

    def writing() -> None:
        try:
            with contextlib.suppress(BrokenPipeError):  # the reader has had enough
                write(theirs)
        finally:
            os.close(theirs)

    thread = threading.Thread(target=writing)
    source = PipeSource(settings_for(url, realtime), ours)
    thread.start()
    try:
        blocks = [block.frames for block in source.blocks() if block is not None]
    finally:
        source.close()
        thread.join()
    return np.concatenate(blocks) if blocks else np.zeros((0, source.channels), np.float32)


def all_of(data: bytes) -> Callable[[int], None]:
    def write(descriptor: int) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    return write


ONES = {  # the bytes of -1, 0.5 and 0.25 at full scale
    "u8": "00 c0 a0",
    "s16le": "0080 0040 0020",
    "s24le": "000080 000040 000020",
    "s32le": "00000080 00000040 00000020",
    "f32le": "000080bf 0000003f 0000803e",
    "f64le": "000000000000f0bf 000000000000e03f 000000000000d03f",
}


@pytest.mark.parametrize("name", PCM_FORMATS)
def test_formats(name: str) -> None:
    data = bytes.fromhex(ONES[name])
    assert to_float(data, name).tolist() == [-1, 0.5, 0.25]
    assert to_float(data, name).dtype == np.float32
    frames = through(f"pipe:-?format={name}&channels=3&rate=8000", all_of(data * 100))
    assert np.array_equal(frames, np.tile(np.array([-1, 0.5, 0.25], np.float32), (100, 1)))


def test_24_bits_are_kept() -> None:
    values = np.array([-(1 << 23), -1, 0, 1, 0x123456, (1 << 23) - 1])
    data = b"".join(int(v).to_bytes(3, "little", signed=True) for v in values)
    assert np.array_equal(to_float(data, "s24le"), (values / (1 << 23)).astype(np.float32))


@given(sizes=st.lists(st.integers(1, 3_000), max_size=12), channels=st.integers(1, 3))
@settings(max_examples=examples(40))
def test_how_a_writer_cuts_its_bytes_does_not_matter(sizes: list[int], channels: int) -> None:
    whole = RAMP[: len(RAMP) // channels * channels]
    data = whole.tobytes()

    def write(descriptor: int) -> None:
        at = 0
        for size in sizes:
            at += os.write(descriptor, data[at : at + size])
        all_of(data[at:])(descriptor)

    frames = through(f"pipe:-?channels={channels}&rate=8000", write)
    assert np.array_equal(frames, (whole.astype(np.float32) / 32_768).reshape(-1, channels))


@pytest.mark.parametrize("realtime", [False, True])
@pytest.mark.parametrize("count", [1, 1_000, 2_400])
def test_the_last_frames_are_delivered(count: int, realtime: bool) -> None:
    data = RAMP[: 2 * count].tobytes()
    assert len(through("pipe:-", all_of(data), realtime)) == count


def test_an_empty_pipe_ends_at_once() -> None:
    assert len(through("pipe:-", all_of(b""))) == 0


@pytest.mark.parametrize("extra", [1, 3])
def test_an_end_within_a_frame_is_an_error(extra: int) -> None:
    with pytest.raises(
        SourceError, match=f"ended within a frame: {extra} bytes are left of 4; is it really 2 channels of s16le"
    ):
        through("pipe:-", all_of(bytes(400 + extra)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sample_that_is_not_finite_is_an_error_with_its_place(value: float) -> None:
    samples = np.zeros((20_000, 2), "<f4")
    samples[12_345, 1] = value
    with pytest.raises(SourceError, match=r"frame 12345 \(1\.54 s\) is not a finite number; is it really f32le") as refusal:
        through("pipe:-?format=f32le&rate=8000", all_of(samples.tobytes()))
    assert not refusal.value.retry


def test_a_writer_that_pauses_is_waited_for_and_the_source_stays_alive() -> None:
    """The writer continues only after the reader has reported that there is nothing yet."""
    ours, theirs = os.pipe()
    source = PipeSource(settings_for("pipe:-?channels=1&rate=8000"), ours)
    blocks = source.blocks()
    heard: list[Array] = []
    for part in range(3):
        assert next(blocks) is None
        os.write(theirs, RAMP[part * 10 : part * 10 + 10].tobytes())
        block = next(blocks)
        assert isinstance(block, Block)
        heard.append(block.frames)
    os.close(theirs)
    assert list(blocks) == []
    source.close()
    assert np.array_equal(np.concatenate(heard)[:, 0] * 32_768, RAMP[:30])


class Time:
    """A clock that only sleeping advances."""

    def __init__(self) -> None:
        self.now = 50.0

    def monotonic(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return round(self.now * 1e9)

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 0.1
        self.now += seconds + 1e-6


@pytest.fixture
def own_time(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    for module in ("sources.pipe", "source"):
        monkeypatch.setattr(f"mertd.capture.{module}.time", clock)
    return clock


@pytest.mark.parametrize("realtime", [True, False])
def test_a_writer_that_is_too_fast_is_slowed_down_at_real_time_pace_only(own_time: Time, realtime: bool) -> None:
    seconds = 10
    data = np.zeros(8_000 * seconds, "<i2").tobytes()
    frames = through("pipe:-?channels=1&rate=8000", all_of(data), realtime)
    assert len(frames) == 8_000 * seconds
    took = own_time.now - 50
    expected = seconds / (1 + RATE_TOLERANCE) - MAX_LEAD_S if realtime else 0
    assert took == pytest.approx(expected, abs=0.06)


def test_a_block_is_dated_by_when_its_last_frame_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipe, "read_clocks", lambda: ClockPair(1_000_000_000, 2_000_000_000))
    ours, theirs = os.pipe()
    source = PipeSource(settings_for("pipe:-?channels=1&rate=8000", realtime=True), ours)
    os.write(theirs, bytes(800))
    os.close(theirs)
    block = next(source.blocks())
    source.close()
    assert isinstance(block, Block)
    assert block.age_ns == 50_000_000
    assert block.captured_at == ClockPair(1_000_000_000 - block.age_ns, 2_000_000_000 - block.age_ns)


def test_what_is_unread_behind_a_block_makes_it_older(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer made the 450 frames that a block of 400 leaves in the pipe later, and before the block was read."""
    monkeypatch.setattr(pipe, "read_clocks", lambda: ClockPair(1_000_000_000, 2_000_000_000))
    ours, theirs = os.pipe()
    source = PipeSource(settings_for("pipe:-?channels=1&rate=8000", realtime=True), ours)
    os.write(theirs, bytes(2 * 850))
    os.close(theirs)
    blocks = [block for block in source.blocks() if block is not None]
    source.close()
    assert [len(block.frames) for block in blocks] == [400, 400, 50]
    assert [block.age_ns for block in blocks] == [850 * 125_000, 450 * 125_000, 50 * 125_000]
    assert blocks[0].captured_at == ClockPair(1_000_000_000 - blocks[0].age_ns, 2_000_000_000 - blocks[0].age_ns)


@pytest.mark.parametrize("path", ["/dev/zero", "pyproject.toml"])
def test_of_what_is_no_pipe_nothing_counts_as_unread(path: str) -> None:
    """A device does not tell, and what follows in a file was not made before it is read."""
    source = PipeSource(settings_for("pipe:-?channels=1&rate=8000", realtime=True), os.open(path, os.O_RDONLY))
    block = next(source.blocks())
    source.close()
    assert isinstance(block, Block)
    assert block.age_ns == 50_000_000


def test_a_fifo_waits_for_its_writer_and_can_be_opened_again(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    address = parse(f"pipe:{fifo}?channels=1&rate=8000")
    for run in range(2):
        source = PipeSource(CaptureSettings(address, realtime=False, start=0))
        assert source.reopens
        blocks = source.blocks()
        assert next(blocks) is None, "nobody has opened it for writing, which is no end"
        with fifo.open("wb", buffering=0) as writer:
            writer.write(RAMP[run * 10 : run * 10 + 10].tobytes())
        found = [block.frames for block in blocks if block is not None]
        source.close()
        assert np.array_equal(np.concatenate(found)[:, 0] * 32_768, RAMP[run * 10 : run * 10 + 10])


@pytest.mark.parametrize("realtime", [True, False])
def test_what_is_in_a_fifo_before_it_is_read_in_real_time_is_dropped_and_reported(tmp_path: Path, realtime: bool) -> None:
    """It was written before anything read it, so its time is unknown. An incomplete frame is kept for its other half."""
    fifo = tmp_path / "radio"
    os.mkfifo(fifo)
    ends = os.open(fifo, os.O_RDWR), os.open(fifo, os.O_WRONLY)  # the first, so that the second finds a reader
    stale, fresh = np.full(1_001, 7, "<i2"), RAMP[:2_001]
    os.write(ends[1], stale.tobytes())
    source = PipeSource(settings_for(f"pipe:{fifo}?format=s16le&channels=2&rate=8000", realtime))
    os.write(ends[1], fresh.tobytes())
    for descriptor in ends:
        os.close(descriptor)
    heard = np.concatenate([block.frames for block in source.blocks() if block is not None]).ravel()
    source.close()
    expected = np.concatenate([stale[1_000 if realtime else 0 :], fresh])
    assert np.array_equal(heard, expected.astype(np.float32) / 32_768)
    assert ("dropped 500 frames" in source.description) is realtime


def read_all(source: PipeSource) -> Array:
    """Return what is read until the source ends, and close it."""
    found = [block.frames for block in source.blocks() if block is not None]
    source.close()
    return np.concatenate(found)[:, 0] * 32_768


def test_a_fifo_that_is_made_anew_is_followed(tmp_path: Path) -> None:
    """As by a program that removes it and makes it at its start: the old one never has a writer again."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    source = PipeSource(settings_for(f"pipe:{fifo}?channels=1&rate=8000"))
    blocks = source.blocks()
    assert next(blocks) is None
    fifo.unlink()
    assert next(blocks) is None, "nothing stands in its place yet"
    os.mkfifo(fifo)
    assert next(blocks) is None
    with fifo.open("wb", buffering=0) as writer:  # hangs without a reader
        writer.write(RAMP[:10].tobytes())
    assert np.array_equal(np.concatenate([b.frames for b in blocks if b])[:, 0] * 32_768, RAMP[:10])
    source.close()


def test_a_fifo_is_heard_to_its_end_before_the_one_in_its_place(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    source = PipeSource(settings_for(f"pipe:{fifo}?channels=1&rate=8000"))
    with fifo.open("wb", buffering=0) as writer:
        fifo.unlink()
        os.mkfifo(fifo)
        blocks = source.blocks()
        assert next(blocks) is None
        writer.write(RAMP[:10].tobytes())
        block = next(blocks)
        assert block is not None
        assert len(block.frames) == 10
        assert next(blocks) is None, "its writer may write more"
        writer.write(RAMP[10:20].tobytes())
    assert sum(len(b.frames) for b in blocks if b) == 10
    assert source.reopens, "the one in its place is opened next"
    source.close()


def test_a_fifo_that_is_not_there_may_come(tmp_path: Path) -> None:
    """Its writer may remove it at its end: a stream that has lost it looks for it until it is back."""
    with pytest.raises(SourceError, match="No such file") as refusal:
        PipeSource(settings_for(f"pipe:{tmp_path / 'none'}"))
    assert refusal.value.retry


class EofOfMac:
    """`select` and `os.read` of a FIFO on macOS: before its first writer it is at its end; emulated over the real one."""

    def __init__(self, module_select: object) -> None:
        self._select = module_select

    def select(self, readers: list[int], *_: object) -> tuple[list[int], ...]:
        found: tuple[list[int], ...] = self._select.select(readers, [], [], 0.01)  # type: ignore[attr-defined]
        return (found[0] or readers, [], [])


def test_on_macos_a_fifo_waits_for_its_first_writer_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipe, "select", EofOfMac(pipe.select))
    monkeypatch.setattr(pipe, "ENDS_BEFORE_WRITER", True)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    source = PipeSource(settings_for(f"pipe:{fifo}?channels=1&rate=8000"))
    blocks = source.blocks()
    assert [next(blocks) for _ in range(3)] == [None] * 3
    fifo.unlink()
    os.mkfifo(fifo)
    assert next(blocks) is None
    with fifo.open("wb", buffering=0) as writer:
        writer.write(RAMP[:10].tobytes())
    assert np.array_equal(np.concatenate([b.frames for b in blocks if b])[:, 0] * 32_768, RAMP[:10])
    source.close()


@pytest.mark.parametrize(("format", "word"), [("WAV", "a WAV file"), ("OGG", "an Ogg stream"), ("MP3", "MP3")])
def test_what_is_not_raw_is_refused_before_anything_is_delivered(tmp_path: Path, format: str, word: str) -> None:
    path = tmp_path / "sound"
    soundfile.write(path, np.tile(RAMP, 20) / 32_768, 44_100, format=format)
    with pytest.raises(SourceError, match=f"this is not raw PCM but {word}.*; decode it first") as refusal:
        through("pipe:-?rate=8000", all_of(path.read_bytes()))
    assert "-f s16le -ar 8000 -ac 2" in str(refusal.value)
    assert not refusal.value.retry
    with pytest.raises(SourceError, match=word):
        read_all(PipeSource(settings_for(f"pipe:{path}")))


def test_the_next_writer_of_a_fifo_may_do_better(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    source = PipeSource(settings_for(f"pipe:{fifo}"))
    with fifo.open("wb", buffering=0) as writer:
        writer.write(b"RIFF\xff\xff\xff\xffWAVEfmt ")
        with pytest.raises(SourceError, match="WAV") as refusal:
            list(source.blocks())
    source.close()
    assert refusal.value.retry


def test_a_path_need_not_be_utf_8(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    Path(path).write_bytes(RAMP.tobytes())
    assert np.array_equal(read_all(PipeSource(settings_for(f"pipe:{path}?channels=1"))), RAMP)


def test_a_raw_file_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    path.write_bytes(RAMP.tobytes())
    source = PipeSource(settings_for(f"pipe:{path}?rate=8000"))
    assert not source.reopens
    assert "a file, not a FIFO" in source.description
    assert sum(len(block.frames) for block in source.blocks() if block) == len(RAMP) // 2
    source.close()


def test_what_cannot_be_opened_is_explained(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file or directory; make one with mkfifo, or use pipe:-"):
        PipeSource(settings_for(f"pipe:{tmp_path / 'none'}"))
