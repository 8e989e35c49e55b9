"""A file made of chunks (WAV, AIFF, W64, CAF, AU and others) that libsndfile opens, read to its true end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mertd.capture.sound_files.chunks import SampleBytes, locate
from mertd.capture.sound_files.region import open_region
from mertd.capture.sound_files.shortfall import Findings
from mertd.capture.sound_files.sndfile import PcmFormat, SndfilePart
from mertd.capture.source import Frames


class ChunkedPart:
    """What the header says is heard through libsndfile; what it leaves out is read as samples of the same format."""

    def __init__(self, path: Path, start: int, where: SampleBytes, findings: Findings) -> None:
        """`start`: position of the first byte after a tag. Raises `SourceError` if libsndfile cannot read it."""
        self._path = path
        self._start = start
        self._findings = findings
        self._where = where
        self._sound = SndfilePart(path, start)
        self.rate = self._sound.rate
        self.channels = self._sound.channels
        self.format = self._sound.format
        pcm = self._sound.pcm
        self._pcm = pcm if pcm and where.frame_bytes in (0, pcm.frame_bytes) else None

    @property
    def needs_other(self) -> bool:
        """Whether the header gives no length, and the samples cannot be read without it."""
        return self._pcm is None and self._where.unknown

    def pieces(self) -> Iterator[tuple[int, Frames]]:
        """Yield (Hz, frames (n, channels)) until the end of the file, also of one that grows meanwhile."""
        done = 0  # bytes of samples that were read
        if self._pcm is None or not self._where.unknown:
            for frames in self._sound.pieces():
                yield self.rate, frames
            if self._pcm is None:
                self._note_missing(self._bytes_per_s())
                return
            done = self._sound.done * self._pcm.frame_bytes
        self._sound.close()
        while (end := self._where.end) - self._where.start - done >= self._pcm.frame_bytes:
            before = done
            for frames in self._read(self._pcm, self._where.start + done, end):
                done += len(frames) * self._pcm.frame_bytes
                yield self.rate, frames
            if done == before:
                break
            self._where = self._locate() or self._where
        self._note_missing(self._pcm.frame_bytes * self.rate, done)

    def _locate(self) -> SampleBytes | None:
        with open_region(self._path, self._start) as file:
            return locate(file)

    def _read(self, pcm: PcmFormat, start: int, end: int) -> Iterator[Frames]:
        self._sound = SndfilePart(self._path, self._start + start, self._start + end, pcm)
        yield from self._sound.pieces()
        self._sound.close()

    def _bytes_per_s(self) -> float:
        """Return the mean number of bytes of a second of compressed audio."""
        return (self._where.end - self._where.start) * self.rate / max(1, self._sound.done)

    def _note_missing(self, bytes_per_s: float, done: int | None = None) -> None:
        where, problem = self._where, self._sound.problem
        if where.absent:
            self._findings.missing(where.absent / bytes_per_s, f"the file is cut: its header claims {where.absent} more bytes")
        if where.unclaimed:
            self._findings.missing(
                where.unclaimed / bytes_per_s,
                f"{where.unclaimed} bytes follow the end that its header gives; if they are audio, repair the header",
            )
        if done is not None and self._pcm is not None and where.end - where.start - done >= self._pcm.frame_bytes:
            self._findings.missing((where.end - where.start - done) / bytes_per_s, problem or "it could not be read to its end")
        elif problem:
            self._findings.missing(0, problem)

    def close(self) -> None:
        """Close the file."""
        self._sound.close()
