"""How fast and how well similar moments are found: against looking at every vector, and with numpy as a user would write it.

The vectors lie in plain files, one for each segment, so that only the search is measured and not the store. Questions are asked
in a process of their own, which begins with nothing in its memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.bench.measure import percentiles
from mertd.bench.music_vectors import PIECE_WINDOWS, PIECES_A_BLOCK, MusicVectors
from mertd.memory.similarity.centre import Centre, centred_units
from mertd.memory.similarity.exact_scan import best_rows
from mertd.memory.similarity.joined_segments import join
from mertd.memory.similarity.moments import Moment, merge_moments
from mertd.memory.similarity.pair_sample import PairSample
from mertd.memory.similarity.segment_index import SUFFIX, build_index, open_index
from mertd.memory.similarity.similar import WINDOWS_PER_MOMENT, IndexedSegment, find_similar
from mertd.memory.similarity.vector_segment import Floats, Ints, SegmentTable, SpanFilter

SIZE = 768
"""Numbers in a vector."""

SEGMENT_BLOCKS = 8
"""Blocks of pieces in a segment: 163,840 vectors, about as many as a file of the memory holds."""

HOP_NS = 5_000_000_000
"""Time between the starts of two windows, in nanoseconds."""

WINDOW_NS = 30_000_000_000
"""Length of a window, in nanoseconds."""

MOMENTS = 10
"""Moments that are asked for."""

JUDGED = 100
"""Questions whose answers are compared with those of an exact search."""


@dataclass(frozen=True)
class PlainSegment:
    """A segment whose vectors are a file of float16 numbers."""

    path: Path
    first: int  # id of its first vector
    count: int
    size: int = SIZE

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def digest(self) -> str:
        return f"{self.first}-{self.count}"

    def table(self) -> SegmentTable:
        return self.rows(np.arange(self.first, self.first + self.count, dtype=np.int64))

    def rows(self, ids: Ints) -> SegmentTable:
        """Return when the windows with these ids were heard."""
        start = ids * HOP_NS
        return SegmentTable(ids, start, start + WINDOW_NS, np.zeros(len(ids), np.int32))

    def vectors(self, ids: Ints) -> NDArray[np.float16]:
        """Read vectors: each stretch of ids without a gap at once."""
        found = np.empty((len(ids), self.size), np.float16)
        if not len(ids):
            return found
        cuts = np.flatnonzero(np.diff(ids) != 1) + 1
        with self.path.open("rb", buffering=0) as file:
            for at, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(ids)], strict=True):
                offset = 2 * self.size * (int(ids[at]) - self.first)
                found[at:end] = np.frombuffer(os.pread(file.fileno(), 2 * self.size * (end - at), offset), "<f2").reshape(
                    -1, self.size
                )
        return found


def measure_search(vectors: int, questions: int, workers: int, progress: Callable[[str], object]) -> dict[str, Any]:
    """Return how long building and asking take, what they cost, and how many moments of an exact search are found."""
    with tempfile.TemporaryDirectory(prefix="mertd-") as name:
        folder = Path(name)
        music = MusicVectors(max(1, vectors // PIECE_WINDOWS), SIZE)
        progress(f"making {music.count:,} vectors")
        centre, sample = write_segments(music, folder, workers)
        (folder / "centre").write_bytes(centre.to_bytes())
        (folder / "sample").write_bytes(sample.to_bytes())
        parts = segments(music, folder)
        joined = join(parts)
        built = time.monotonic()
        for number, part in enumerate(joined):
            progress(f"index {number + 1} of {len(joined)}")
            build_index(part, centre.mean, folder / f"{part.name}{SUFFIX}", workers)
        built = time.monotonic() - built
        progress(f"asking {questions} questions")
        asked = _ask_elsewhere(folder, music.pieces, questions)
        progress("looking at every vector")
        rows = question_rows(music.count, questions)[:JUDGED]
        exact = time.monotonic()
        truth = search_exactly(parts, rows, centre.mean)
        exact = time.monotonic() - exact
        answers = [[Moment(**moment) for moment in moments] for moments in asked.pop("answers")]
        index_bytes = sum((folder / f"{part.name}{SUFFIX}").stat().st_size for part in joined)
        return {
            "vectors": music.count,
            "segments": len(parts),
            "indexes": len(joined),
            "questions": questions,
            "build_s": built,
            "index_bytes": index_bytes,
            "vector_bytes": 2 * SIZE * music.count,
            **asked,
            "recall": recall(truth, answers),
            "exact_ms": 1e3 * exact / len(rows),
        }


def write_segments(music: MusicVectors, folder: Path, workers: int) -> tuple[Centre, PairSample]:
    """Write the vectors of all segments, and return their centre and sample."""
    centre, sample = Centre(SIZE), PairSample(SIZE)
    numbers = range(-(-music.pieces // (PIECES_A_BLOCK * SEGMENT_BLOCKS)))
    write = partial(_write_segment, music, folder)
    made: Iterable[tuple[bytes, bytes]]
    if workers == 1:
        made = map(write, numbers)
    else:
        with ProcessPoolExecutor(workers) as pool:
            made = list(pool.map(write, numbers))
    for part_centre, part_sample in made:
        centre.merge(Centre.from_bytes(part_centre))
        sample.merge(PairSample.from_bytes(part_sample))
    return centre, sample


def _write_segment(music: MusicVectors, folder: Path, number: int) -> tuple[bytes, bytes]:
    centre, sample = Centre(SIZE), PairSample(SIZE)
    part = segments(music, folder)[number]
    row = part.first
    with part.path.open("wb") as file:
        for block in range(number * SEGMENT_BLOCKS, (number + 1) * SEGMENT_BLOCKS):
            if block * PIECES_A_BLOCK >= music.pieces:
                break
            vectors = music.block(block)
            file.write(vectors.tobytes())
            centre.add(vectors)
            table = part.rows(np.arange(row, row + len(vectors), dtype=np.int64))
            sample.add(table.start_ns, table.streams, vectors)
            row += len(vectors)
    return centre.to_bytes(), sample.to_bytes()


def segments(music: MusicVectors, folder: Path) -> list[PlainSegment]:
    """Return the segments of a folder."""
    each = PIECES_A_BLOCK * SEGMENT_BLOCKS * PIECE_WINDOWS
    firsts = range(0, music.count, each)
    return [PlainSegment(folder / f"{first}.vectors", first, min(each, music.count - first)) for first in firsts]


def question_rows(vectors: int, questions: int) -> list[int]:
    """Return the windows that are asked for."""
    rows: list[int] = np.random.default_rng(7).integers(0, vectors, questions).tolist()
    return rows


def search_exactly(parts: Sequence[PlainSegment], rows: Sequence[int], mean: Floats) -> list[list[Moment]]:
    """Return for each window the moments that an exact search finds; all are searched in one pass over the vectors."""
    units = np.concatenate([centred_units(_vector(parts, row)[None], mean) for row in rows])
    limit = WINDOWS_PER_MOMENT * MOMENTS
    best: list[tuple[Ints, Floats]] = [(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in rows]
    for part in parts:
        for first in range(part.first, part.first + part.count, 16_384):
            ids = np.arange(first, min(first + 16_384, part.first + part.count), dtype=np.int64)
            scores = centred_units(part.vectors(ids), mean) @ units.T
            for at in range(len(rows)):
                column = scores[:, at]
                kept_ids, kept = best[at]
                useful = column > kept.min() if len(kept) == limit else np.ones(len(column), bool)
                useful &= (ids * HOP_NS + WINDOW_NS <= rows[at] * HOP_NS) | (ids * HOP_NS >= rows[at] * HOP_NS + WINDOW_NS)
                kept_ids, kept = np.append(kept_ids, ids[useful]), np.append(kept, column[useful])
                top = best_rows(kept, limit)
                best[at] = (kept_ids[top], kept[top])
    return [merge_moments(parts[0].rows(ids), scores, MOMENTS) for ids, scores in best]


def recall(truth: Sequence[Sequence[Moment]], answers: Sequence[Sequence[Moment]]) -> float:
    """Return the share of the moments in `truth` that overlap a moment of the answer to the same question."""
    pairs = [(moment, answer) for moments, answer in zip(truth, answers, strict=False) for moment in moments]
    found = sum(any(m.start_ns < moment.end_ns and moment.start_ns < m.end_ns for m in answer) for moment, answer in pairs)
    return found / len(pairs)


def _vector(parts: Sequence[PlainSegment], row: int) -> NDArray[np.float16]:
    part = next(part for part in parts if part.first <= row < part.first + part.count)
    vector: NDArray[np.float16] = part.vectors(np.array([row]))[0]
    return vector


def _ask_elsewhere(folder: Path, pieces: int, questions: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "mertd.bench.moment_search", str(folder), str(pieces), str(questions)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def ask(folder: Path, pieces: int, questions: int) -> dict[str, Any]:
    """Ask, in this process, and return the times and the answers. The first answer includes opening everything."""
    music = MusicVectors(pieces, SIZE)
    parts = segments(music, folder)
    rows = question_rows(music.count, questions)
    begun = time.monotonic()
    mean = Centre.from_bytes((folder / "centre").read_bytes()).mean
    calibration = PairSample.from_bytes((folder / "sample").read_bytes()).calibrate(mean)
    indexed = [IndexedSegment(part, open_index(part, folder / f"{part.name}{SUFFIX}")) for part in join(parts)]
    times: list[float] = []
    answers: list[list[Moment]] = []
    first_s = 0.0
    for number, row in zip(count(), [rows[-1], *rows], strict=False):
        without = SpanFilter(without=((row * HOP_NS, row * HOP_NS + WINDOW_NS),))
        vector = _vector(parts, row)
        asked = time.monotonic()
        found = find_similar(vector, indexed, mean, calibration, MOMENTS, without)
        if number:
            times.append(1e3 * (time.monotonic() - asked))
            answers.append(found)
        else:
            first_s = time.monotonic() - begun
    return {
        "first_s": first_s,
        "ask_ms": percentiles(times),
        "own_mb": _own_mb(),
        "answers": [[moment.__dict__ for moment in found] for found in answers[:JUDGED]],
    }


def _own_mb() -> float:
    """Return the megabytes of this process that are no mapped files; all of its memory where the system cannot tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return next(float(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(ask(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
