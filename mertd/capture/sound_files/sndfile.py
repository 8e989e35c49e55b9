"""Decoding through libsndfile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mertd.capture.limits import MAX_BLOCK_VALUES
from mertd.capture.sound_files.region import Stretch, open_region
from mertd.capture.source import Frames
from mertd.errors import SourceError

SAMPLE_BYTES = {"PCM_U8": 1, "PCM_S8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}
"""Bytes of a sample in the encodings that have no frames of several samples, by libsndfile's names."""

UNKNOWN_FRAMES = 1 << 62
"""Frames from which on a length is libsndfile's way to say that it is unknown."""


@dataclass(frozen=True)
class PcmFormat:
    """How samples without a header are written."""

    rate: int  # Hz
    channels: int
    subtype: str
    endian: str

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame."""
        return SAMPLE_BYTES[self.subtype] * self.channels


@cache
def _sequential_reader() -> Any:
    """Return a class that reads a file from its start to its end.

    soundfile's own seeks after every read of a file that can seek, and a seek makes the decoders of MP3 and Vorbis begin anew:
    what they return then depends on how much is read at a time.
    """
    import soundfile

    class SequentialFile(soundfile.SoundFile):  # type: ignore[misc]
        def seekable(self) -> bool:
            return False

    return SequentialFile


class SndfilePart:
    """A file, or a stretch of one, that libsndfile reads."""

    def __init__(self, path: Path, start: int = 0, end: int | None = None, pcm: PcmFormat | None = None) -> None:
        """`pcm`: read samples without a header. Raises `SourceError` if it cannot be read, and `OSError`."""
        import soundfile

        whole = start == 0 and end is None
        file = Stretch(path) if whole else open_region(path, start, end)
        raw = {} if pcm is None else {
            "samplerate": pcm.rate, "channels": pcm.channels, "subtype": pcm.subtype, "endian": pcm.endian, "format": "RAW"
        }  # fmt: skip
        try:
            # A descriptor, because the name of a file need not be text.
            self._sound = _sequential_reader()(file.fileno() if whole else file, closefd=False, **raw)
        except (soundfile.LibsndfileError, TypeError, ValueError) as error:
            file.close()
            raise SourceError(str(getattr(error, "error_string", error))) from error
        self._file = file
        self._error = soundfile.LibsndfileError
        self.rate = int(self._sound.samplerate)
        self.channels = int(self._sound.channels)
        self.format = str(self._sound.format)
        self.subtype = str(self._sound.subtype)
        self.claimed = int(self._sound.frames) if self._sound.frames < UNKNOWN_FRAMES else None
        self.done = 0  # frames that were read
        self.problem = ""  # why it ended early, if it did

    @property
    def pcm(self) -> PcmFormat | None:
        """How its samples would be read without the header; None if they cannot."""
        if self.subtype not in SAMPLE_BYTES:
            return None
        endian = str(self._sound.endian)
        if endian == "FILE":
            big = self.format in ("AIFF", "AU", "CAF") or self._magic() in (b"RIFX", b"FORM")
            endian = "BIG" if big else "LITTLE"
        return PcmFormat(self.rate, self.channels, self.subtype, endian)

    def _magic(self) -> bytes:
        at = self._file.tell()
        self._file.seek(0)
        magic = self._file.read(4)
        self._file.seek(at)
        return magic

    def pieces(self) -> Iterator[Frames]:
        """Yield frames, (n, channels), until libsndfile gives no more."""
        size = max(1, MAX_BLOCK_VALUES // self.channels)
        while True:
            try:
                frames: Any = self._sound.read(size, dtype="float32", always_2d=True)
            except self._error as error:
                # The frames before the fault were decoded and then withheld: another decoder reads them again.
                self.problem = str(error.error_string) or f"libsndfile error {error.code}"
                return
            if not len(frames):
                return
            self.done += len(frames)
            yield frames

    def close(self) -> None:
        """Close the file."""
        self._sound.close()
        self._file.close()
