"""`file:` sources: sound files that libsndfile or FFmpeg's libraries read (wav, flac, ogg, mp3, m4a, aiff and others)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from mertd.capture.levels import LevelCheck
from mertd.capture.limits import MAX_BLOCK_VALUES, block_frames
from mertd.capture.not_pcm import EXAMINED_BYTES, identify
from mertd.capture.reports import CaptureSettings
from mertd.capture.sound_files.recording import Recording
from mertd.capture.source import Block, EndReport, Frames, Pacer, idle
from mertd.errors import SourceError


class FileSource:
    """A sound file, played once."""

    reopens = False
    explain_zeros = None

    def __init__(self, settings: CaptureSettings) -> None:
        """Raises `SourceError` if the file does not exist or is not audio."""
        path = Path(settings.address.target)
        if path.is_fifo():
            raise SourceError(f"{path} is a FIFO, not a sound file; read raw PCM from it with pipe:{path}")
        if not path.is_file():
            near = sorted(p.name for p in path.parent.glob(f"{path.stem}.*"))[:3] if path.parent.is_dir() else []
            raise SourceError(f"no file at {path}" + (f"; there is {', '.join(near)}" if near else ""))
        try:
            self._recording = Recording(path)
        except (SourceError, OSError) as error:
            if path.suffix.lower() == ".raw":
                raise SourceError(f"{path} has no header; read raw PCM with pipe:{path}?rate=…&channels=…&format=…") from error
            if isinstance(error, OSError):
                raise SourceError(f"{path} cannot be read as audio: {error.strerror or error}") from error
            found = f"it looks like {kind}. " if (kind := _kind(path)) else ""
            raise SourceError(
                f"{path} cannot be read as audio: {found}{error}; other formats go through ffmpeg and pipe:-"
            ) from error
        self.rate = self._recording.rate
        self.channels = self._recording.channels
        self.description = f"{path.name}: {self._recording.format} {self.rate} Hz, {self.channels} channels"
        self._realtime = settings.realtime
        self._levels = LevelCheck(self.channels)
        self._mix = settings.address.mix

    @property
    def end_report(self) -> EndReport:
        """What is missing, and what the levels suggest."""
        report = self._recording.end_report
        return replace(report, hints=(*report.hints, *self._levels.hints(self._mix)))

    def blocks(self) -> Iterator[Block | None]:
        """Yield blocks, at the pace of the wall clock in real time; else large ones, as each step costs Python's lock.

        Raises `SourceError` after the last frame before a sample that is not finite.
        """
        size = block_frames(self.rate, self.channels, realtime=True) if self._realtime else MAX_BLOCK_VALUES // self.channels
        pacer, done = Pacer(self.rate), 0
        for frames in in_blocks(self._recording.pieces(), size):
            finite = np.isfinite(frames)
            good = len(frames) if finite.all() else int(finite.all(axis=1).argmin())
            done += good
            self._levels.add(frames[:good])
            while self._realtime and (wait := pacer.wait(done)) > 0:
                yield from idle(wait)
            if good:
                yield Block(frames[:good])
            if good < len(frames):
                raise SourceError(f"{self.description}: holds samples that are not finite, at {done / self.rate:.1f} s")

    def close(self) -> None:
        """Close the file."""
        self._recording.close()


def _kind(path: Path) -> str:
    """Return what a file is by its first bytes, in words; empty if that is unknown."""
    try:
        with path.open("rb") as file:
            return identify(file.read(EXAMINED_BYTES))
    except OSError:
        return ""


def open_source(settings: CaptureSettings) -> FileSource:
    """Open a `file:` source. Raises `SourceError`."""
    return FileSource(settings)


def in_blocks(pieces: Iterator[Frames], size: int) -> Iterator[Frames]:
    """Yield the same frames in blocks of `size`, the last one shorter."""
    kept: list[Frames] = []
    count = 0
    for piece in pieces:
        while len(piece):
            part, piece = piece[: size - count], piece[size - count :]
            kept.append(part)
            count += len(part)
            if count == size:
                yield kept[0] if len(kept) == 1 else np.concatenate(kept)
                kept, count = [], 0
    if kept:
        yield kept[0] if len(kept) == 1 else np.concatenate(kept)
