"""Where the samples of a file made of chunks are: WAV, RF64, W64, AIFF, CAF, and AU.

A header's size is a claim. It is 0 or huge if the program that wrote it could not return to it or crashed, it wraps around in a
WAV beyond 4 GiB, and it exceeds the file if that was cut.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import BinaryIO, Literal

from mertd.capture.sound_files.region import is_padding

WRAP_BYTES = 1 << 32
"""Bytes after which a size of 32 bits begins again at 0."""

UNKNOWN_SIZES = (range(0x7FFF_0000, 0x8001_0000), range(0xFFFF_0000, WRAP_BYTES))
"""Sizes, in bytes, that programs write when they do not know how much will follow."""

W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
"""First bytes of a W64 file."""

MAX_POSITION = 1 << 60
"""Bytes beyond which no file reaches, whatever the size of a chunk claims."""

MAX_CHUNKS = 10_000
"""Most chunks to look at in a file."""


@dataclass(frozen=True)
class _Layout:
    """How chunks are written."""

    first: int  # position of the first chunk
    id_bytes: int
    size_bytes: int
    order: Literal["little", "big"]
    data: bytes  # first four bytes of the id of the chunk with samples
    skip: int = 0  # bytes in that chunk before the samples
    align: int = 2
    counts_header: bool = False  # sizes include the header of the chunk


_LAYOUTS = {
    b"RIFF": _Layout(12, 4, 4, "little", b"data"),
    b"RIFX": _Layout(12, 4, 4, "big", b"data"),
    b"RF64": _Layout(12, 4, 4, "little", b"data"),
    b"BW64": _Layout(12, 4, 4, "little", b"data"),
    b"FORM": _Layout(12, 4, 4, "big", b"SSND", skip=8),
    b"riff": _Layout(40, 16, 8, "little", b"data", align=8, counts_header=True),
    b"caff": _Layout(8, 4, 8, "big", b"data", skip=4, align=1),
}


@dataclass(frozen=True)
class SampleBytes:
    """Where the samples are, in bytes from the start of the file."""

    start: int
    end: int  # of what is there and belongs to the samples
    absent: int = 0  # bytes that the header claims and the file does not have
    unclaimed: int = 0  # bytes after the end that the header gives which are neither chunks, tags nor zeros
    unknown: bool = False  # the header gives no length, or one that has wrapped around
    frame_bytes: int = 0  # bytes of a frame, if the header says so


def locate(file: BinaryIO) -> SampleBytes | None:
    """Return where the samples are; None if `file` is not made of chunks, or has none of samples."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(24)
    if head[:4] == b".snd" and len(head) == 24:
        start, claimed = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
        return _judge(file, start, claimed, size, None) if 24 <= start <= size else None
    layout = _LAYOUTS.get(head[:4])
    if layout is None or (layout.id_bytes == 16 and head[:16] != W64_RIFF):
        return None
    return _find_data(file, layout, size)


def _find_data(file: BinaryIO, layout: _Layout, size: int) -> SampleBytes | None:
    at = layout.first
    long_size: int | None = None  # of the samples of an RF64 file
    frame_bytes = 0
    for _ in range(MAX_CHUNKS):
        header = _header(file, layout, at)
        if header is None:
            return None
        name, claimed, content = header
        if name == b"ds64":  # the sizes, of 64 bits, of an RF64 file
            file.seek(content + 8)
            long_size = int.from_bytes(file.read(8), "little")
        if name == b"fmt ":
            file.seek(content + 12)
            frame_bytes = int.from_bytes(file.read(2), layout.order)
        if name == layout.data:
            if long_size is not None and claimed == WRAP_BYTES - 1:
                claimed, layout = long_size, replace(layout, size_bytes=8)
            start = content + layout.skip
            if claimed:
                claimed = max(0, claimed - layout.skip)
            return replace(_judge(file, min(start, size), claimed, size, layout), frame_bytes=frame_bytes)
        at = content + claimed + -claimed % layout.align
    return None


def _header(file: BinaryIO, layout: _Layout, at: int) -> tuple[bytes, int, int] | None:
    """Return the first four bytes of the id, the size in bytes, and the position of the content of the chunk at `at`."""
    if at > MAX_POSITION:
        return None
    file.seek(at)
    header = file.read(layout.id_bytes + layout.size_bytes)
    if len(header) < layout.id_bytes + layout.size_bytes:
        return None
    claimed = int.from_bytes(header[layout.id_bytes :], layout.order)
    if layout.counts_header:
        claimed = max(0, claimed - len(header))
    return header[:4], claimed, at + len(header)


def _judge(file: BinaryIO, start: int, claimed: int, size: int, layout: _Layout | None) -> SampleBytes:
    """Compare what a header claims with what is there."""
    available, wrapped = size - start, False
    long = layout is not None and layout.size_bytes == 8
    huge = claimed >= 1 << 62 if long else any(claimed in sizes for sizes in UNKNOWN_SIZES)
    if huge and (long or claimed > available or not _is_rest(file, start + claimed, size, layout)):
        return SampleBytes(start, size, unknown=True)
    if not claimed and not _is_rest(file, start, size, layout):
        return SampleBytes(start, size, unknown=True)
    if not long and available - claimed >= WRAP_BYTES:
        claimed += (available - claimed) // WRAP_BYTES * WRAP_BYTES
        wrapped = True
    if claimed >= available:
        return SampleBytes(start, size, absent=claimed - available)
    end = start + claimed
    return SampleBytes(start, end, unclaimed=0 if _is_rest(file, end, size, layout) else size - end, unknown=wrapped)


def _is_rest(file: BinaryIO, start: int, end: int, layout: _Layout | None) -> bool:
    """Whether bytes [start, end) are what may follow samples: padding, tags or chunks."""
    if layout is not None:
        start += -start % layout.align if layout.align == 2 else 0
        at = start + (-(start - layout.first) % layout.align)
        for _ in range(MAX_CHUNKS):
            header = _header(file, layout, at) if at < end else None
            if header is None or not all(32 <= byte < 127 for byte in header[0]) or header[2] + header[1] > end + 1:
                break
            at = header[2] + header[1] + -header[1] % layout.align
        start = min(at, end)
    return end - start <= 1 or is_padding(file, start, end)
