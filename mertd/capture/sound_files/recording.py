"""A sound file as one stream of frames, whatever decodes it and however many recordings are in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import soxr

from mertd.capture.sound_files.chunked import ChunkedPart
from mertd.capture.sound_files.chunks import locate
from mertd.capture.sound_files.ffmpeg import FfmpegPart
from mertd.capture.sound_files.links import Link, flac_links, ogg_links
from mertd.capture.sound_files.region import open_region, skip_id3
from mertd.capture.sound_files.shortfall import Findings
from mertd.capture.sound_files.verified import VerifiedPart
from mertd.capture.source import EndReport, Frames
from mertd.errors import SourceError


class Part(Protocol):
    """One recording in a file, open."""

    rate: int  # Hz
    channels: int
    format: str

    def pieces(self) -> Iterator[tuple[int, Frames]]:
        """Yield (Hz, frames (n, channels))."""

    def close(self) -> None:
        """Close the file."""


class Recording:
    """All audio of a sound file, at the rate and with the channels with which it begins."""

    def __init__(self, path: Path) -> None:
        """Raises `SourceError` if it is not audio, and `OSError`."""
        self._findings = Findings()
        first, *self._rest = _plan(path, self._findings)
        self._part = first()
        self.rate = self._part.rate
        self.channels = self._part.channels
        self.format = self._part.format

    @property
    def end_report(self) -> EndReport:
        """What is missing so far."""
        return self._findings.report()

    def pieces(self) -> Iterator[Frames]:
        """Yield frames, (n, channels), until the end of the file."""
        converter = _Converter(self.rate, self.channels)
        for rate, frames in self._all_pieces():
            yield from converter.feed(rate, frames)
        yield from converter.flush()

    def _all_pieces(self) -> Iterator[tuple[int, Frames]]:
        yield from self._part.pieces()
        for number, opener in enumerate(self._rest, 2):
            self._part.close()
            try:
                self._part = opener()
            except SourceError as error:
                self._findings.missing(0, f"recording {number} of {len(self._rest) + 1} in it cannot be read: {error}")
                continue
            yield from self._part.pieces()

    def close(self) -> None:
        """Close the file."""
        self._part.close()


class _Converter:
    """Brings frames to one rate and number of channels. Those that have them already are passed on as they are."""

    def __init__(self, rate: int, channels: int) -> None:
        self._rate = rate
        self._channels = channels
        self._from = rate  # Hz of the frames that came last
        self._resampler: soxr.ResampleStream | None = None

    def feed(self, rate: int, frames: Frames) -> Iterator[Frames]:
        if rate != self._from:
            yield from self.flush()
            self._from = rate
            if rate != self._rate:
                self._resampler = soxr.ResampleStream(rate, self._rate, self._channels, dtype="float32", quality="HQ")
        if frames.shape[1] != self._channels:
            mean = frames.mean(axis=1, dtype=np.float32, keepdims=True)
            frames = np.ascontiguousarray(np.broadcast_to(mean, (len(frames), self._channels)))
        if self._resampler is not None:
            frames = self._resampled(frames, last=False)
        if len(frames):
            yield frames

    def flush(self) -> Iterator[Frames]:
        if self._resampler is not None:
            yield self._resampled(np.zeros((0, self._channels), np.float32), last=True)
            self._resampler = None

    def _resampled(self, frames: Frames, last: bool) -> Frames:
        assert self._resampler is not None
        return np.asarray(self._resampler.resample_chunk(frames, last=last), np.float32).reshape(-1, self._channels)


def _plan(path: Path, findings: Findings) -> list[Callable[[], Part]]:
    """Return functions that open the recordings in a file, in order. Raises `OSError`."""
    with open_region(path) as file:
        start = skip_id3(file)
        file.seek(start)
        magic = file.read(4)
        if magic in (b"OggS", b"fLaC"):
            links = ogg_links(file, start) if magic == b"OggS" else flac_links(file, start)
            is_whole = len(links) == 1 and not start
            return [partial(_open_link, path, link, is_whole, findings) for link in links]
    return [partial(_open_single, path, start, findings)]


def _open_link(path: Path, link: Link, is_whole: bool, findings: Findings) -> Part:
    try:
        return VerifiedPart(path, link, is_whole, findings)
    except SourceError as error:
        return _open_ffmpeg(path, link.start, None if is_whole else link.end, findings, str(error))


def _open_single(path: Path, start: int, findings: Findings) -> Part:
    with open_region(path, start) as file:
        where = locate(file)
    if where is None:
        try:
            return VerifiedPart(path, Link(0, path.stat().st_size), True, findings)
        except SourceError as error:
            return _open_ffmpeg(path, 0, None, findings, str(error))
    absent_share = where.absent / max(1, where.end - where.start)
    try:
        part = ChunkedPart(path, start, where, findings)
    except SourceError as error:
        return _open_ffmpeg(path, start, None, findings, str(error), absent_share)
    if not part.needs_other:
        return part
    part.close()
    return _open_ffmpeg(path, start, None, findings, "", absent_share)


def _open_ffmpeg(
    path: Path, start: int, end: int | None, findings: Findings, other_error: str, absent_share: float = 0.0
) -> Part:
    try:
        return FfmpegPart(path, findings, start, end, absent_share)
    except SourceError as error:
        raise SourceError(f"{other_error} FFmpeg: {error}".strip()) from error
