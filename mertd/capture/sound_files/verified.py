"""A compressed file (FLAC, Ogg, MP3) that libsndfile opens, checked with FFmpeg for what libsndfile leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mertd.capture.sound_files.ffmpeg import MAX_ROUNDING_S, FfmpegPart
from mertd.capture.sound_files.links import Link
from mertd.capture.sound_files.shortfall import Findings
from mertd.capture.sound_files.sndfile import SndfilePart
from mertd.capture.source import Frames
from mertd.errors import SourceError


class VerifiedPart:
    """What libsndfile decodes, then what only FFmpeg finds after it."""

    def __init__(self, path: Path, link: Link, is_whole: bool, findings: Findings) -> None:
        """`is_whole`: the link is the whole file. Raises `SourceError` if libsndfile cannot read it."""
        self._path = path
        self._link = link
        self._end = None if is_whole else link.end
        self._findings = findings
        self._sound = SndfilePart(path, link.start, self._end)
        self._other: FfmpegPart | None = None
        self.rate = self._sound.rate
        self.channels = self._sound.channels
        self.format = self._sound.format

    def pieces(self) -> Iterator[tuple[int, Frames]]:
        """Yield (Hz, frames (n, channels))."""
        for frames in self._sound.pieces():
            yield self.rate, frames
        done = self._sound.done
        claimed = self._sound.claimed
        problem = self._sound.problem
        self._note_broken()
        if self.format == "FLAC" and claimed == done and not problem:
            return
        noticed = Findings()
        try:
            self._other = FfmpegPart(self._path, noticed, self._link.start, self._end)
            seconds = self._other.scan()
        except SourceError as error:
            self._note_unverified(str(error))
            return
        by_pages = claimed if self.format == "OGG" else None  # frames by the numbers of pages: right also if some are damaged
        if not problem and (by_pages is not None or seconds <= done / self.rate + MAX_ROUNDING_S):
            self._findings.merge(noticed)
            if by_pages is not None and by_pages > done and not noticed.report().reason:
                self._findings.missing((by_pages - done) / self.rate, "it is damaged")
            return
        self._other.close()
        self._other = FfmpegPart(self._path, self._findings, self._link.start, self._end)
        yield from self._after(self._other, done)

    def _after(self, other: FfmpegPart, done: int) -> Iterator[tuple[int, Frames]]:
        """Yield what `other` decodes after the first `done` frames."""
        for rate, frames in other.pieces():
            start = other.position - len(frames)
            if start + len(frames) > done:
                yield rate, frames[max(0, done - start) :]

    def _note_broken(self) -> None:
        link = self._link
        if link.broken:
            seconds = link.broken / max(1, link.end - link.start - link.broken) * self._sound.done / self.rate
            self._findings.missing(seconds, f"{link.broken} bytes in it belong to no page of Ogg: it is cut or damaged")

    def _note_unverified(self, why: str) -> None:
        sound = self._sound
        if sound.problem or (sound.claimed or 0) > sound.done:
            self._findings.missing(((sound.claimed or sound.done) - sound.done) / self.rate, sound.problem or why)

    def close(self) -> None:
        """Close the file."""
        self._sound.close()
        if self._other:
            self._other.close()
