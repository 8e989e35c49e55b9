"""Embeddings of one source without a daemon: the same capture, windows and model, in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mertd.capture.address import Address
from mertd.capture.entry import open_source
from mertd.capture.mono import MonoConverter
from mertd.capture.reports import CaptureSettings
from mertd.capture.source import COMPLETE, AudioSource, Block, EndReport
from mertd.defaults import SAMPLE_RATE
from mertd.embed.audio import Levels, PreparedWindow, prepare
from mertd.embed.embedder import Embedder
from mertd.errors import SourceError
from mertd.wire import Audio, Embedding, Latency, Model, Span, Time

BOOT = bytes(16)
"""`boot` of embeddings that do not come from a daemon."""

NO_LATENCY = Latency(wait=0, embed=0, total=0)
"""Latency of embeddings that do not come from a daemon: nobody waits, and the same input gives the same bytes."""


@dataclass(frozen=True)
class SilentWindow:
    """A window below the gate, which is not embedded."""

    window: Span
    levels: Levels


@dataclass(frozen=True)
class WindowsDone:
    """Windows at the start of a source that an earlier run has embedded, or found silent."""

    embedded: int = 0
    silent: int = 0


NOTHING_DONE = WindowsDone()
"""A source that begins at its start."""


class LostAudio:
    """Stretches of zeros that stand for audio which a source could not capture, in samples at SAMPLE_RATE."""

    def __init__(self) -> None:
        self._stretches: list[tuple[int, int]] = []
        self.samples = 0  # in all

    def add(self, start: int, end: int) -> None:
        """Note that samples [start, end) are lost."""
        self._stretches.append((start, end))
        self.samples += end - start

    def within(self, window: Span) -> int:
        """Return how many samples of `window` are lost, and forget what ends before it."""
        self._stretches = [stretch for stretch in self._stretches if stretch[1] > window.start]
        return sum(max(0, min(end, window.end) - max(start, window.start)) for start, end in self._stretches)


def open_address(address: Address) -> AudioSource:
    """Open a source to be read as fast as it delivers. Raises `SourceError`."""
    return open_source(CaptureSettings(address, realtime=False, start=0))


@dataclass(frozen=True, eq=False)
class HeardWindow:
    """A window of a source."""

    window: Span
    prepared: PreparedWindow
    missing: int  # samples that were lost, and are zeros


def embed_source(
    address: Address,
    embedder: Embedder,
    window: int,
    hop: int,
    gate_dbfs: float,
    progress: Callable[[float], object],
    opener: Callable[[Address], AudioSource] = open_address,
    stopping: Callable[[], bool] = lambda: False,
    done: WindowsDone = NOTHING_DONE,
) -> Iterator[Embedding | SilentWindow | EndReport]:
    """Yield every window of a source after those `done`, in order; times count from its start. `window`, `hop`: in samples.

    Windows below `gate_dbfs` are not embedded. If audio is missing, or its levels suggest something, the last item says so.
    `progress` is called with the seconds of audio read so far; once `stopping` returns True, the source counts as ended.
    Raises `SourceError` if the source cannot be read, is shorter than one window, or has samples that are not finite.
    """
    sequence = done.embedded
    for found in heard_windows(address, window, hop, gate_dbfs, progress, opener, stopping, done):
        if isinstance(found, EndReport):
            yield found
        elif found.prepared.is_silent:
            yield SilentWindow(found.window, found.prepared.levels)
        else:
            (vector,) = embedder.embed_prepared([found.prepared.samples])
            yield as_embedding(address, found, sequence, vector, embedder.info.model)
            sequence += 1


def heard_windows(
    address: Address,
    window: int,
    hop: int,
    gate_dbfs: float,
    progress: Callable[[float], object] = lambda _: None,
    opener: Callable[[Address], AudioSource] = open_address,
    stopping: Callable[[], bool] = lambda: False,
    done: WindowsDone = NOTHING_DONE,
) -> Iterator[HeardWindow | EndReport]:
    """Do the same up to the model: yield windows that are ready for it. Any thread may run it."""
    found = 0
    reports: list[EndReport] = []
    lost = LostAudio()
    for start, samples in windows(address, window, hop, progress, reports.append, opener, stopping, lost):
        found += 1
        if found <= done.embedded + done.silent:
            continue
        span = Span(start, start + window, SAMPLE_RATE)
        yield HeardWindow(span, prepare(samples, gate_dbfs), lost.within(span))
    report = reports[-1] if reports else COMPLETE
    if not found:
        why = f" ({report})" if report.reason else ""
        raise SourceError(
            f"{address} is shorter than a window of {window / SAMPLE_RATE:g} s{why}; a shorter --window would fit"
        )
    if report != COMPLETE:
        yield report


def as_embedding(
    address: Address, heard: HeardWindow, sequence: int, vector: NDArray[np.float32] | None, model: Model
) -> Embedding:
    """Return the message of a window. Raises `SourceError` if there is no `vector`."""
    span, levels = heard.window, heard.prepared.levels
    if vector is None:
        raise SourceError(
            f"{address}: cannot embed samples {span.start} to {span.end}: "
            "they, or the hidden states that they give, are not finite numbers"
        )
    return Embedding(
        boot=BOOT,
        daemon="",
        stream=address.name,
        epoch=0,
        seq=sequence,
        window=span,
        time=Time(_nanoseconds(span.start), _nanoseconds(span.end), 0, 0.0),
        audio=Audio(levels.rms_dbfs, levels.peak_dbfs, levels.clipped, heard.missing, levels.zeros),
        model=model,
        vector=vector,
        latency_ns=NO_LATENCY,
    )


def windows(
    address: Address,
    window: int,
    hop: int,
    progress: Callable[[float], object],
    ended: Callable[[EndReport], object] = lambda _: None,
    opener: Callable[[Address], AudioSource] = open_address,
    stopping: Callable[[], bool] = lambda: False,
    lost: LostAudio | None = None,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield index of the first sample, and the samples (window,), of every window of a source of any length.

    `ended` is called with what is missing once all audio was read. No more than a window, a hop and a block are kept in memory.
    `lost` takes what the source could not capture.
    """
    parts: list[NDArray[np.float32]] = []  # consecutive samples, joined when a window is complete
    end = 0  # index after the last one
    kept_from = 0  # index of the first one
    start = 0  # of the next window
    for samples in _samples(opener(address), address.mix, ended, stopping, lost or LostAudio()):
        parts.append(samples)
        end += len(samples)
        if start + window <= end or start > kept_from:
            kept = np.concatenate(parts)
            while start + window <= end:
                yield start, kept[start - kept_from : start - kept_from + window]
                start += hop
            drop = min(start - kept_from, len(kept))
            parts, kept_from = [kept[drop:]], kept_from + drop
        progress(end / SAMPLE_RATE)


def _samples(
    source: AudioSource,
    mix: str,
    ended: Callable[[EndReport], object],
    stopping: Callable[[], bool],
    lost: LostAudio,
) -> Iterator[NDArray[np.float32]]:
    """Yield all samples of a source, mono at SAMPLE_RATE, block by block, with zeros for what it lost; then close it."""
    try:
        converter = MonoConverter(source.rate, source.channels, mix)
        frames = 0  # so far, lost ones included
        for block in source.blocks():
            if stopping():  # without a flush: what the resampler still holds would end in a way that the audio does not
                ended(_with_lost(source.end_report, lost))
                return
            if block is None:
                continue
            gap = block.lost if frames else 0  # before the first block there is nothing to stay aligned with
            yield from _zeros(converter, gap, source)
            _note_lost(lost, block, converter, frames, gap)
            yield converter.feed(block.frames)
            frames += gap + len(block.frames)
        yield converter.flush()
        ended(_with_lost(source.end_report, lost))
    finally:
        source.close()


def _zeros(converter: MonoConverter, frames: int, source: AudioSource) -> Iterator[NDArray[np.float32]]:
    while frames:
        count = min(frames, source.rate)
        yield converter.feed(np.zeros((count, source.channels), np.float32))
        frames -= count


def _note_lost(lost: LostAudio, block: Block, converter: MonoConverter, frames: int, gap: int) -> None:
    """Note the `gap` of lost frames before `block`, which begins after `frames` frames, and its frames that were no numbers."""
    stretches = [(-gap, 0)] if gap else []
    stretches += [block.nonfinite] if block.nonfinite else []
    for start, end in stretches:
        lost.add(*(round(converter.to_output(frames + gap + at)) for at in (start, end)))


def _with_lost(report: EndReport, lost: LostAudio) -> EndReport:
    if not lost.samples:
        return report
    reasons = [report.reason] if report.reason else []
    reasons.append("audio was lost while it was captured; zeros stand in its place")
    return replace(report, missing_s=report.missing_s + lost.samples / SAMPLE_RATE, reason="; ".join(reasons))


def _nanoseconds(samples: int) -> int:
    return samples * 1_000_000_000 // SAMPLE_RATE
