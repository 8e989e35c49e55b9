"""Sound files to embeddings without a daemon: the same capture, windows and model, in one process."""

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
from mertd.defaults import SAMPLE_RATE
from mertd.embed.audio import Levels, measure_levels
from mertd.embed.embedder import Embedder
from mertd.errors import SourceError
from mertd.wire import Audio, Embedding, Latency, Span, Time

BOOT = bytes(16)
"""`boot` of embeddings that no daemon made."""


@dataclass(frozen=True)
class Silent:
    """A window below the gate."""

    window: Span
    levels: Levels


def embed_source(
    address: Address,
    embedder: Embedder,
    window: int,
    hop: int,
    gate_dbfs: float,
    heard: Callable[[float], None],
) -> Iterator[Embedding | Silent]:
    """Every window of a source, in order; times count from its start. Those below `gate_dbfs` are silent. `heard` is told
    seconds of audio read so far.

    Raises `SourceError` if the source cannot be read, or is shorter than one window.
    """
    sequence, done = count(), 0
    for start, samples in windows(address, window, hop, heard):
        span = Span(start, start + window, SAMPLE_RATE)
        levels = measure_levels(samples)
        done += 1
        if levels.rms_dbfs < gate_dbfs:
            yield Silent(span, levels)
            continue
        began = time.monotonic_ns()
        vector = embedder.embed([samples])[0]
        took = time.monotonic_ns() - began
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
            latency_ns=Latency(0, took, took),
        )
    if not done:
        raise SourceError(f"{address} is shorter than a window of {window / SAMPLE_RATE:g} s; a shorter --window would fit")


def windows(
    address: Address, window: int, hop: int, heard: Callable[[float], None]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(first sample, samples) of every window of a source, whatever its length, with no more than a window in memory."""
    kept, first, start = np.zeros(0, np.float32), 0, 0
    for samples in _samples(address):
        kept = np.concatenate([kept, samples])
        while start + window <= first + len(kept):
            yield start, kept[start - first : start - first + window]
            start += hop
        drop = min(start - first, len(kept))
        kept, first = kept[drop:], first + drop
        heard((first + len(kept)) / SAMPLE_RATE)


def _samples(address: Address) -> Iterator[NDArray[np.float32]]:
    source = open_source(CaptureSettings(address, realtime=False, start=0))
    try:
        pipeline = MonoConverter(source.rate, source.channels, address.mix)
        for block in source.blocks():
            if block is not None:
                yield pipeline.feed(block.frames)
        yield pipeline.flush()
    finally:
        source.close()


def _nanoseconds(samples: int) -> int:
    return samples * 1_000_000_000 // SAMPLE_RATE
