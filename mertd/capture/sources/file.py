"""`file:` sources: sound files that libsndfile reads (wav, flac, ogg, mp3, aiff and others)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mertd.capture.limits import block_frames
from mertd.capture.reports import CaptureSettings
from mertd.capture.source import Block, Pacer, idle
from mertd.errors import SourceError


class FileSource:
    """A sound file, played once."""

    reopens = False
    explain_zeros = None

    def __init__(self, settings: CaptureSettings) -> None:
        """Raises `SourceError` if the file does not exist or is not audio."""
        import soundfile

        path = Path(settings.address.target).expanduser()
        if not path.is_file():
            near = sorted(p.name for p in path.parent.glob(f"{path.stem}.*"))[:3] if path.parent.is_dir() else []
            raise SourceError(f"no file at {path}" + (f"; there is {', '.join(near)}" if near else ""))
        try:
            self._file = soundfile.SoundFile(path)
        except (soundfile.LibsndfileError, OSError) as error:
            raise SourceError(f"{path} cannot be read as audio: {error}; other formats go through ffmpeg and pipe:-") from error
        except TypeError as error:  # soundfile asks for the format of a file called *.raw
            raise SourceError(f"{path} has no header; read raw PCM with pipe:{path}?rate=…&channels=…&format=…") from error
        self._error = soundfile.LibsndfileError
        self.rate = int(self._file.samplerate)
        self.channels = int(self._file.channels)
        self.description = f"{path.name}: {self._file.format} {self.rate} Hz, {self.channels} channels"
        self._realtime = settings.realtime

    def blocks(self) -> Iterator[Block | None]:
        """Yield blocks, at the pace of the wall clock in real time."""
        size = block_frames(self.rate, self.channels, self._realtime)
        pacer, done = Pacer(self.rate), 0
        while True:
            try:
                frames = self._file.read(size, dtype="float32", always_2d=True)
            except self._error as error:
                raise SourceError(f"{self.description}: broken after {done / self.rate:.1f} s: {error}") from error
            if not len(frames):
                return
            if not np.isfinite(frames).all():
                raise SourceError(f"{self.description}: holds samples that are not finite, at {done / self.rate:.1f} s")
            done += len(frames)
            while self._realtime and (wait := pacer.wait(done)) > 0:
                yield from idle(wait)
            yield Block(frames)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_source(settings: CaptureSettings) -> FileSource:
    """Open a `file:` source. Raises `SourceError`."""
    return FileSource(settings)
