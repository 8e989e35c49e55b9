"""Decoding through FFmpeg's libraries, which PyAV's wheels contain.

Rules of this file: FFmpeg never opens a file or an address by itself, since a playlist among sound files would otherwise make
it read other files and connect to servers; it is given an open file and a list of formats. Packets that it cannot decode and
gaps between packets are counted as missing.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.capture.sound_files.mpeg_frame import frame_bytes
from mertd.capture.sound_files.region import TAGS, open_region, skip_id3
from mertd.capture.sound_files.shortfall import Findings
from mertd.capture.source import Frames
from mertd.errors import SourceError

FORMATS = (
    "aac,ac3,adx,aiff,amr,ape,asf,ast,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,g722,gsm,iff,ircam,latm,loas,m4v,matroska,mlp,mmf,mov,"
    "mp2,mp3,mpc,mpc8,mpeg,mpegts,nut,oga,ogg,oma,qcp,rm,rso,shn,smjpeg,sox,tak,truehd,tta,voc,vqf,w64,wav,webm,wsaud,wv,wve,xa,xwma"
)
"""Formats that FFmpeg may recognise: all hold audio themselves, none refers to other files."""

DECLARED_LENGTHS = frozenset({"mov", "matroska", "asf", "flac", "ape", "tta", "wv", "caf", "w64", "tak", "mpc", "aiff"})
"""Formats whose header declares a length; that of others is FFmpeg's estimate."""

MAX_ROUNDING_S = 0.1
"""Seconds by which a declared length may exceed the audio: containers round it, or count the encoder's delay."""

MIN_MISSING_S = 0.001
"""Seconds below which the difference to a declared length says nothing about audio that is known to be damaged."""

READ_BYTES = 1 << 18
"""Bytes that FFmpeg reads at a time."""

MP3_HEAD_BYTES = 256
"""Bytes at the start of an MP3 file within which its first frame says how many there are."""

MAX_NOTED = 100
"""Most faults of a file that are remembered one by one."""

INSTALL_HINT = "install it with `uv sync`, or `pip install av`"


def pyav() -> Any:
    """Return the module av. Raises `SourceError` where it is missing or cannot be loaded."""
    try:
        import av
    except ImportError as error:
        raise SourceError(f"the package av, which reads this file, is not installed ({error}); {INSTALL_HINT}") from error
    return av


class FfmpegPart:
    """A file, or a stretch of one, that FFmpeg reads."""

    def __init__(
        self, path: Path, findings: Findings, start: int = 0, end: int | None = None, absent_share: float = 0.0
    ) -> None:
        """`absent_share`: bytes of samples that the file is known to lack, for each that it has.

        Raises `SourceError` if it holds no audio that FFmpeg knows, and `OSError`.
        """
        av = pyav()
        self._file = open_region(path, start, end)
        self._findings = findings
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}
        try:
            self._container = av.open(
                self._file, options=options, buffer_size=READ_BYTES, metadata_errors="replace", timeout=None
            )
        except (av.error.FFmpegError, ValueError, UnicodeError) as error:
            self._file.close()
            raise SourceError(str(getattr(error, "strerror", "") or error)) from error
        self._stream = self._choose()
        context = self._stream.codec_context
        self.rate = int(context.sample_rate or 0)
        self.channels = int(context.layout.nb_channels if context.layout else 0)
        self.format = f"{self._container.format.name.split(',')[0]}/{context.name}"
        unit = self._stream.time_base
        self._tick = (unit.numerator, unit.denominator) if unit else (0, 1)  # seconds of a unit of the packets' times
        self._absent_share = absent_share
        self.done = 0  # frames that were decoded, at `rate`
        self._lost = 0.0  # seconds that were not
        self._reasons: list[str] = []  # why they were not
        if not self.rate or not self.channels:
            self.close()
            raise SourceError("its audio has no sample rate or no channels")

    def _choose(self) -> Any:
        tracks = list(self._container.streams.audio)
        known = [track for track in tracks if track.codec_context is not None]
        if not known:
            self.close()
            raise SourceError("it holds no audio track" if not tracks else "its audio has a codec that FFmpeg does not know")
        best = self._container.streams.best("audio") or known[0]
        if best.codec_context is None:
            best = known[0]
        if len(tracks) > 1:
            chosen = tracks.index(best) + 1
            self._findings.hint(
                f"it has {len(tracks)} audio tracks, of which track {chosen} is heard; ffmpeg can extract another"
            )
        return best

    def pieces(self) -> Iterator[tuple[int, Frames]]:
        """Yield (Hz, frames (n, channels)): both rate and channels may change on the way."""
        padding: list[tuple[int, Frames]] = []  # frames after the declared end, until there are too many of them
        declared = self._declared_frames()
        for packet in self._packets():
            for rate, frames in self._decode(packet):
                inside = max(0, declared - self.done) if declared else len(frames)
                self.done += round(len(frames) * self.rate / rate)
                if inside:
                    yield rate, frames[:inside]
                if inside < len(frames):
                    padding.append((rate, frames[inside:]))
                if sum(len(frames) for _, frames in padding) > (self._stream.codec_context.frame_size or 0):
                    yield from padding
                    padding, declared = [], 0
        self._note_missing()

    def scan(self) -> float:
        """Return the seconds of audio in all packets, without decoding them; note the gaps between them."""
        seconds = 0.0
        for packet in self._packets():
            if packet.size and self._is_mp3 and not frame_bytes(bytes(packet)[:4]):
                self._lose_packet(packet)
            elif packet.size:
                seconds += self._seconds(packet)
                self.done = round(seconds * self.rate)
        self._note_missing()
        return seconds

    def _packets(self) -> Iterator[Any]:
        """Yield the packets of the track, and an empty one at the end. Note what cannot be read, and gaps."""
        packets = self._container.demux(self._stream)
        expected: float | None = None  # seconds at which the next packet should start
        last: Any = None
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                if last and self._is_mp3 and last.size < frame_bytes(bytes(last)[:4]):
                    self._lose(self._seconds(last), "its last frame is cut")
                return
            except self._error as error:
                self._lose(self._rest_s(), f"FFmpeg cannot read on after {self._seconds_done():.1f} s: {error.strerror}")
                return
            if packet.size and packet.pts is not None:
                expected = self._check_gap(packet, expected)
            last = packet if packet.size else last
            yield packet

    def _decode(self, packet: Any) -> Iterator[tuple[int, Frames]]:
        try:
            frames = packet.decode()
        except self._error:
            if packet.size:
                self._lose_packet(packet)
            return
        for frame in frames:
            yield int(frame.sample_rate), _to_float(frame)

    @property
    def _error(self) -> Any:
        return pyav().error.FFmpegError

    @property
    def _is_mp3(self) -> bool:
        return bool(self._container.format.name == "mp3")

    def _declared_frames(self) -> int:
        """Return the frames that an MP4 file declares, without the padding of its last packet; 0 if it declares none."""
        if self._container.format.name.startswith("mov") and self._stream.duration and self._stream.time_base:
            return round(float(self._stream.duration * self._stream.time_base) * self.rate)
        return 0

    def _seconds(self, packet: Any) -> float:
        return self._timed(packet.duration) or float(self._stream.codec_context.frame_size or 0) / self.rate

    def _timed(self, ticks: int | None) -> float:
        """Return how many seconds so many units of the packets' times are; 0 if these have none."""
        ahead, below = self._tick
        return (ticks or 0) * ahead / below

    def _check_gap(self, packet: Any, expected: float | None) -> float | None:
        if not self._tick[0]:
            return None
        start = self._timed(packet.pts)
        length = self._seconds(packet)
        if expected is not None and start - expected > max(MAX_ROUNDING_S, 2 * length):
            self._lose(start - expected, f"a gap at {self._seconds_done():.1f} s")
        return start + length

    def _lose_packet(self, packet: Any) -> None:
        """Count a packet as lost, unless it is a tag between two recordings, or padding."""
        content = bytes(packet)
        if content.strip(b"\0") and not content.startswith(TAGS):
            self._lose(self._seconds(packet), f"damaged at {self._seconds_done():.1f} s")

    def _lose(self, seconds: float, reason: str) -> None:
        self._lost += seconds
        if len(self._reasons) < MAX_NOTED:
            self._reasons.append(reason)

    @property
    def position(self) -> int:
        """Frames from the start of the audio, those that are missing included."""
        return self.done + round(self._lost * self.rate)

    def _seconds_done(self) -> float:
        return self.done / self.rate + self._lost

    def _rest_s(self) -> float:
        """Return about how many seconds the bytes hold that were not read."""
        at, size = self._file.tell(), self._file.seek(0, io.SEEK_END)
        return (size - at) / at * self._seconds_done() if at else 0.0

    def _note_missing(self) -> None:
        """Compare what was read with the length that the header declares, if it does."""
        declared = self._declared_s()
        if self._absent_share:
            absent = self.done / self.rate * self._absent_share
            self._findings.missing(absent, "the file is cut: its header claims more bytes than it has")
        missing = declared - self.done / self.rate
        if missing > MAX_ROUNDING_S:
            self._reasons.append(f"it ends after {self.done / self.rate:.1f} of {declared:.1f} s")
        if not self._reasons:
            return
        self._findings.missing(missing if missing > MIN_MISSING_S else self._lost, self._reasons[0])
        for reason in self._reasons[1:]:
            self._findings.missing(0, reason)

    def _declared_s(self) -> float:
        """Return the seconds that the header declares; 0 if it declares nothing and FFmpeg has guessed."""
        stream = self._stream
        if not (self._is_mp3 or DECLARED_LENGTHS.intersection(self._container.format.name.split(","))):
            return 0.0
        seconds = (self._container.duration or 0) / 1_000_000
        if stream.duration and stream.time_base:
            seconds = float(stream.duration * stream.time_base)
        return min(seconds, self._counted_s()) if self._is_mp3 else seconds

    def _counted_s(self) -> float:
        """Return the seconds that an MP3 file says it has; 0 if it does not: FFmpeg's duration is a guess then."""
        self._file.seek(skip_id3(self._file))
        head = self._file.read(MP3_HEAD_BYTES)
        at = max(head.find(b"Xing"), head.find(b"Info"))
        has_count = at >= 0 and head[at + 4 : at + 8].ljust(4, b"\0")[3] & 1
        frames = int.from_bytes(head[at + 8 : at + 12], "big") if has_count else 0
        return frames * float(self._stream.codec_context.frame_size or 0) / self.rate

    def close(self) -> None:
        """Close the file."""
        self._container.close()
        self._file.close()


def _to_float(frame: Any) -> Frames:
    """Return the samples of a decoded frame, (n, channels), full scale 1."""
    values: NDArray[Any] = frame.to_ndarray()
    values = values.T if frame.format.is_planar else values.reshape(-1, len(frame.layout.channels))
    if values.dtype == np.uint8:
        values = (values.astype(np.float32) - np.float32(128)) / np.float32(128)
    elif values.dtype.kind == "i":
        values = values.astype(np.float32) / np.float32(1 << (8 * values.itemsize - 1))
    return np.ascontiguousarray(values, np.float32)
