"""A memory as years of music would leave it, made in minutes: full files, and one that is being written."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mertd.bench.music_vectors import PIECE_WINDOWS, PIECES_A_BLOCK, MusicVectors
from mertd.memory.memory_folder import segments
from mertd.memory.rewriting import rewrite
from mertd.memory.segment_files import LOG_SUFFIXES, open_path
from mertd.memory.store import Store
from mertd.wire import Audio, Embedding, Latency, Model, Span, Time

SPACE = "5eec4e5eec4e"
"""Space of the vectors."""

STREAM = "music"
"""Stream of the vectors."""

BEGIN_NS = 1_600_000_000_000_000_000
"""Start of the first window, in Unix nanoseconds."""

HOP_NS = 5_000_000_000
"""Time between the starts of two windows, in nanoseconds."""

WINDOW_NS = 30_000_000_000
"""Length of a window, in nanoseconds."""

RATE = 24_000
"""Samples a second."""

BATCH = 512
"""Messages of a transaction, as the process that remembers takes them when many wait."""

UNLIMITED = 1 << 50
"""Bytes of a file that never becomes full."""


@dataclass(frozen=True)
class MadeMemory:
    """What is to be made. `file_blocks`: blocks of pieces in a full file; `open_blocks`: in the one that is being written."""

    folder: Path
    music: MusicVectors
    file_blocks: int
    open_blocks: int

    @property
    def blocks(self) -> int:
        """All blocks of pieces."""
        return -(-self.music.pieces // PIECES_A_BLOCK)

    def make(self, workers: int, progress: Callable[[str], object]) -> None:
        """Write all files."""
        full = self.blocks - min(self.open_blocks, self.blocks)
        firsts = range(0, full, self.file_blocks)
        parts = [range(first, min(first + self.file_blocks, full)) for first in firsts]
        write = partial(_write_file, self.folder, self.music)
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for done, _ in enumerate(pool.map(write, range(1, len(parts) + 1), parts), 1):
                progress(f"{done} of {len(parts)} full files")
        with Store(self.folder, UNLIMITED, UNLIMITED) as store:
            fill(store, self.music, range(full, self.blocks), 0)


def fill(store: Store, music: MusicVectors, blocks: Sequence[int], run: int) -> None:
    """Append blocks of vectors, as one run of a daemon."""
    for block in blocks:
        row = block * PIECES_A_BLOCK * PIECE_WINDOWS
        for first, part in batches(music.block(block)):
            store.append([message(row + first + at, vector, run) for at, vector in enumerate(part)])


def batches(vectors: NDArray[np.float16]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield vectors as messages have them, and the number of the first, `BATCH` at a time."""
    for first in range(0, len(vectors), BATCH):
        yield first, vectors[first : first + BATCH].astype(np.float32)


def message(row: int, vector: NDArray[np.float32], run: int = 0) -> Embedding:
    """Return a vector as a daemon would publish it: window number `row` of a stream."""
    start = BEGIN_NS + row * HOP_NS
    first = row * HOP_NS * RATE // 1_000_000_000
    return Embedding(
        boot=run.to_bytes(16, "big"),
        daemon="bench",
        stream=STREAM,
        epoch=1,
        seq=row,
        window=Span(first, first + WINDOW_NS * RATE // 1_000_000_000, RATE),
        time=Time(start, start + WINDOW_NS, 2_000_000, 12.5),
        audio=Audio(-18.25, -3.5, 0, 0, 0),
        model=Model("MERT-v1-95M", SPACE, "random:0", False, (6,), "mean", "onnx", "float32"),
        vector=vector[None],
        latency_ns=Latency(40_000_000, 2_900_000_000, 2_950_000_000),
    )


def _write_file(folder: Path, music: MusicVectors, number: int, blocks: range) -> None:
    with tempfile.TemporaryDirectory(prefix="making-", dir=folder) as name:
        own = Path(name)
        with Store(own, UNLIMITED, UNLIMITED) as store:
            fill(store, music, blocks, number)
        (written,) = segments(own)
        target = open_path(own, number)
        for extra in (*LOG_SUFFIXES, ""):
            written.with_name(written.name + extra).rename(target.with_name(target.name + extra))
        full = rewrite(target)
        full.rename(folder / full.name)
