"""Where one recording ends and the next begins in a file that holds several, as dumps of internet radio do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO

from mertd.capture.sound_files.region import READ_BYTES, is_padding

FLAC_START = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
"""How a FLAC stream begins: its mark, and the header of the block that describes it."""

FLAC_START_BYTES = 8
"""Length of FLAC_START."""

OGG_HEADER_BYTES = 27
"""Bytes of an Ogg page before its table of segments."""

OGG_FIRST_PAGE = 2
"""Flag of the first page of a logical stream."""


@dataclass(frozen=True)
class Link:
    """One recording in a file, in bytes from the start of the file."""

    start: int
    end: int
    broken: int = 0  # bytes in it that belong to no page


def flac_links(file: BinaryIO, start: int) -> list[Link]:
    """Return the FLAC streams in `file` from `start` on."""
    size, starts = file.seek(0, 2), [start]
    at, kept = start, b""
    file.seek(start)
    while data := file.read(READ_BYTES):
        block = kept + data
        starts += [at - len(kept) + mark.start() for mark in FLAC_START.finditer(block)]
        at += len(data)
        kept = block[1 - FLAC_START_BYTES :]
    starts = sorted(set(starts))
    return [Link(here, end) for here, end in zip(starts, [*starts[1:], size], strict=True)]


def ogg_links(file: BinaryIO, start: int) -> list[Link]:
    """Return the chained streams in `file` from `start` on."""
    size = file.seek(0, 2)
    links: list[Link] = []
    at = start
    first = start  # of the current link
    broken = 0  # bytes in it
    in_headers = True
    while at < size:
        length, flags = _page(file, at)
        if not length or at + length > size:
            following = _find_page(file, at + 1)
            if not is_padding(file, at, following):
                broken += following - at
            at = following
            continue
        is_first = bool(flags & OGG_FIRST_PAGE)
        if is_first and not in_headers:
            links.append(Link(first, at, broken))
            first, broken = at, 0
        in_headers = is_first
        at += length
    return [*links, Link(first, size, broken)]


def _page(file: BinaryIO, at: int) -> tuple[int, int]:
    """Return the length in bytes and the flags of the Ogg page at `at`; a length of 0 if there is none."""
    file.seek(at)
    header = file.read(OGG_HEADER_BYTES)
    if len(header) < OGG_HEADER_BYTES or header[:5] != b"OggS\0":
        return 0, 0
    segments = file.read(header[26])
    return OGG_HEADER_BYTES + len(segments) + sum(segments), header[5]


def _find_page(file: BinaryIO, at: int) -> int:
    """Return the position of the next Ogg page from `at` on, or the end of the file."""
    file.seek(at)
    kept = b""
    while data := file.read(READ_BYTES):
        block = kept + data
        index = block.find(b"OggS\0")
        if index >= 0:
            return at - len(kept) + index
        at += len(data)
        kept = block[-4:]
    return at
