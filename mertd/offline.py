"""Embeddings of sound files without a daemon: the same capture, windows and model, in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from mertd.capture.address import Address
from mertd.capture.entry import open_source
from mertd.capture.mono import MonoConverter
from mertd.capture.reports import CaptureSettings
from mertd.capture.source import COMPLETE, EndReport
from mertd.defaults import SAMPLE_RATE
from mertd.embed.audio import Levels, measure_levels
from mertd.embed.embedder import Embedder
from mertd.errors import SourceError
from mertd.wire import Audio, Embedding, Latency, Span, Time

BOOT = bytes(16)
"""`boot` of embeddings that do not come from a daemon."""


@dataclass(frozen=True)
class SilentWindow:
    """A window below the gate, which is not embedded."""

    window: Span
    levels: Levels


def embed_source(
    address: Address,
    embedder: Embedder,
    window: int,
    hop: int,
    gate_dbfs: float,
    progress: Callable[[float], object],
) -> Iterator[Embedding | SilentWindow | EndReport]:
    """Yield every window of a source, in order; times count from its start. `window`, `hop`: in samples.

    Windows below `gate_dbfs` are not embedded. If audio is missing, or its levels suggest something, the last item says so.
    `progress` is called with the seconds of audio read so far. Raises `SourceError` if the source cannot be read, is shorter
    than one window, or has samples that are not finite.
    """
    sequence = count()
    found = 0
    reports: list[EndReport] = []
    for start, samples in windows(address, window, hop, progress, reports.append):
        span = Span(start, start + window, SAMPLE_RATE)
        levels = measure_levels(samples)
        found += 1
        if levels.rms_dbfs < gate_dbfs:
            yield SilentWindow(span, levels)
            continue
        started_ns = time.monotonic_ns()
        vector = embedder.embed([samples])[0]
        embed_ns = time.monotonic_ns() - started_ns
        if vector is None:
            raise SourceError(
                f"{address}: cannot embed samples {span.start} to {span.end}: "
                "they, or the hidden states that they give, are not finite numbers"
            )
        yield Embedding(
            boot=BOOT,
            daemon="",
            stream=address.name,
            epoch=0,
            seq=next(sequence),
            window=span,
            time=Time(_nanoseconds(start), _nanoseconds(start + window), 0, 0.0),
            audio=Audio(levels.rms_dbfs, levels.peak_dbfs, levels.clipped, 0, levels.zeros),
            model=embedder.info.model,
            vector=vector,
            latency_ns=Latency(wait=0, embed=embed_ns, total=embed_ns),
        )
    report = reports[-1] if reports else COMPLETE
    if not found:
        why = f" ({report})" if report.reason else ""
        raise SourceError(
            f"{address} is shorter than a window of {window / SAMPLE_RATE:g} s{why}; a shorter --window would fit"
        )
    if report != COMPLETE:
        yield report


def windows(
    address: Address,
    window: int,
    hop: int,
    progress: Callable[[float], object],
    ended: Callable[[EndReport], object] = lambda _: None,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield index of the first sample, and the samples (window,), of every window of a source of any length.

    `ended` is called with what is missing once all audio was read. No more than a window and a block are kept in memory.
    """
    kept = np.zeros(0, np.float32)
    kept_from = 0  # index of the first sample that is kept
    start = 0  # of the next window
    for samples in _samples(address, ended):
        kept = np.concatenate([kept, samples])
        while start + window <= kept_from + len(kept):
            yield start, kept[start - kept_from : start - kept_from + window]
            start += hop
        drop = min(start - kept_from, len(kept))
        kept, kept_from = kept[drop:], kept_from + drop
        progress((kept_from + len(kept)) / SAMPLE_RATE)


def _samples(address: Address, ended: Callable[[EndReport], object]) -> Iterator[NDArray[np.float32]]:
    """Yield all samples of a source, mono at SAMPLE_RATE, block by block."""
    source = open_source(CaptureSettings(address, realtime=False, start=0))
    try:
        converter = MonoConverter(source.rate, source.channels, address.mix)
        for block in source.blocks():
            if block is not None:
                yield converter.feed(block.frames)
        yield converter.flush()
        ended(source.end_report)
    finally:
        source.close()


def _nanoseconds(samples: int) -> int:
    return samples * 1_000_000_000 // SAMPLE_RATE
