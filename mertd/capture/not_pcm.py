"""Recognise by its first bytes what is not raw PCM: a sound file, a compressed stream, a playlist, a web page.

Rules of this file: no I/O. Raw PCM may begin with any bytes, so a signature must be long enough to be no chance, and frames of
MP3 or AAC must follow each other and differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise

from mertd.capture.sound_files.mpeg_frame import frame_bytes

EXAMINED_BYTES = 1 << 14
"""Bytes from the beginning of a stream that are examined: more than six frames of the longest kind."""

MIN_FRAMES = 5
"""Frames of MPEG audio in a row that are no chance: 17 bits of each are those of the first."""

FINE_BYTES = 64
"""Bytes that are examined however few of them come at a time: all signatures are shorter."""

COARSE_BYTES = 1 << 10
"""Bytes that come, after those, before the beginning is examined once more for frames."""

MPEG_MASK = b"\xff\xfe\x0c"
"""Bits of the first three bytes of a frame that are the same in all frames of an MP3: sync, version, layer, sample rate."""

ADTS_MASK = b"\xff\xff\xfc"
"""Bits of the first three bytes of an ADTS frame that are the same in all frames: sync, version, profile, sample rate."""

TS_PACKET_BYTES = 188
"""Bytes of a packet of an MPEG transport stream, which begins with 0x47."""

MIN_TS_PACKETS = 8
"""Packets in a row that are no chance."""

_SIGNATURES = (
    (rb"(RIFF|RF64|BW64|RIFX).{4}WAVE", "a WAV file"),
    (rb"RIFF.{4}[A-Z0-9 ]{4}", "a RIFF file"),
    (rb"riff\x2e\x91\xcf\x11", "a Wave64 file"),
    (rb"FORM.{4}AIF[FC]", "an AIFF file"),
    (rb"caff\x00\x01", "a CAF file"),
    (rb"\.snd\x00\x00.{6}\x00\x00\x00", "an AU file"),
    (rb"OggS\x00[\x00-\x07]", "an Ogg stream"),
    (rb"fLaC[\x00\x80]\x00\x00\x22", "a FLAC file"),
    (rb"ID3[\x02-\x04][\x00-\xfe].[\x00-\x7f]{4}", "an MP3 file (it begins with an ID3 tag)"),
    (rb"\x00\x00[\x00-\x0f].ftyp[\x20-\x7e]{4}", "an MP4 file (m4a)"),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a WMA or ASF file"),
    (rb"\x1a\x45\xdf\xa3.{1,40}(webm|matroska)", "a WebM or Matroska file"),
    (rb"wvpk.{4}[\x00-\x20]\x04", "a WavPack file"),
    (rb"MAC [\x00-\xff]\x0f", "a Monkey's Audio file"),
    (rb"TTA[12]\x01\x00", "a TTA file"),
    (rb"FLV\x01[\x01\x04\x05]\x00\x00\x00", "an FLV stream"),
    (rb"DSD \x1c\x00\x00\x00|FRM8.{8}DSD ", "a DSD file"),
    (rb"#!AMR(-WB)?\n", "an AMR file"),
    (rb"\x1f\x8b\x08.{7}", "a gzip file"),
    (rb"#EXTM3U[\r\n]|(?i:\[playlist\])[\r\n]", "a playlist (it names streams and holds no sound)"),
    (rb"\s*(?i:<!doctype html|<html|<head)[ >\r\n]", "a web page (is the address right?)"),
    (rb"HTTP/[0-9.]{1,3} [1-5][0-9]{2} |ICY [1-5][0-9]{2} ", "an answer of a web server, header included"),
)
"""What a stream begins with, and what it is then."""

_COMPILED = tuple((re.compile(pattern, re.DOTALL), kind) for pattern, kind in _SIGNATURES)

_MPEG_SYNC = re.compile(rb"\xff[\xe2-\xe5\xf2-\xf5\xfa-\xfd]")  # layers II and III: quiet PCM is full of layer I's FF FF
_ADTS_SYNC = re.compile(rb"\xff[\xf0\xf1\xf8\xf9]")


class NotPcmDetector:
    """Examines the first EXAMINED_BYTES of a stream as they come."""

    def __init__(self) -> None:
        self._head = b""
        self._next = 1  # bytes at which to look again

    def feed(self, data: bytes) -> str:
        """Take the next bytes and return what they are, in words; empty if they may be raw PCM."""
        if len(self._head) == EXAMINED_BYTES:
            return ""
        self._head += data[: EXAMINED_BYTES - len(self._head)]
        if len(self._head) < self._next:
            return ""
        self._next = min(EXAMINED_BYTES, len(self._head) + (1 if len(self._head) < FINE_BYTES else COARSE_BYTES))
        return identify(self._head)


def identify(head: bytes) -> str:
    """Return what a stream that begins with `head` is, in words; empty if it may be raw PCM."""
    for pattern, kind in _COMPILED:
        if pattern.match(head):
            return kind
    if _is_transport_stream(head):
        return "an MPEG transport stream"
    if _has_frames(head, _MPEG_SYNC, frame_bytes, MPEG_MASK):
        return "MP3 or other MPEG audio"
    if _has_frames(head, _ADTS_SYNC, adts_frame_bytes, ADTS_MASK):
        return "AAC (ADTS)"
    return ""


def adts_frame_bytes(head: bytes) -> int:
    """Return the length in bytes of the ADTS frame of which `head` is the beginning; 0 if it is none."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return 0
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return length if length > 7 else 0


def _is_transport_stream(head: bytes) -> bool:
    syncs = head[: TS_PACKET_BYTES * MIN_TS_PACKETS : TS_PACKET_BYTES]
    if syncs != b"\x47" * MIN_TS_PACKETS:
        return False
    return len(set(_pieces(head, range(0, TS_PACKET_BYTES * MIN_TS_PACKETS, TS_PACKET_BYTES)))) > 1


def _has_frames(head: bytes, sync: re.Pattern[bytes], length: Callable[[bytes], int], mask: bytes) -> bool:
    """Return whether MIN_FRAMES frames follow each other, from anywhere in `head` on: a radio is joined within a frame.

    A periodic signal may have what looks like a header once in each period, but then its frames are all the same; a constant
    channel may have it in every frame of PCM, which is too often.
    """
    for found in sync.finditer(head):
        starts = [found.start()]
        first = _masked(head[starts[0] : starts[0] + 3], mask)
        while len(starts) <= MIN_FRAMES and (size := length(head[starts[-1] : starts[-1] + 8])):
            if _masked(head[starts[-1] : starts[-1] + 3], mask) != first:
                break
            starts.append(starts[-1] + size)
        if len(starts) > MIN_FRAMES and starts[-1] <= len(head) and len(set(_pieces(head, starts))) > 1:
            stretch = head[starts[0] : starts[-1]]
            alike = sum(_masked(stretch[at : at + 3], mask) == first for at in range(len(stretch)))
            if alike <= 2 * MIN_FRAMES:
                return True
    return False


def _pieces(head: bytes, starts: range | list[int]) -> Iterator[bytes]:
    """Yield what is between each start and the next, without the first bytes, where a header counts."""
    for start, end in pairwise(starts):
        yield head[start + 4 : end]


def _masked(header: bytes, mask: bytes) -> bytes:
    return bytes(a & b for a, b in zip(header, mask, strict=False))
