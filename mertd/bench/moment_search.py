"""How fast and how well similar moments are found in a memory: against looking at every vector.

Questions are asked in a process of their own, which begins with nothing in its memory, as `mertd similar` does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.bench.made_memory import BEGIN_NS, HOP_NS, SPACE, WINDOW_NS, MadeMemory
from mertd.bench.measure import percentiles
from mertd.memory.file_group import FileGroup
from mertd.memory.memory_folder import complete_groups, segments
from mertd.memory.searched_file import SearchedFile
from mertd.memory.segment import Segment
from mertd.memory.segment_files import number_of
from mertd.memory.similar_search import SimilarSearch
from mertd.memory.similarity.centre import Centre, centred_units
from mertd.memory.similarity.exact_scan import best_rows
from mertd.memory.similarity.frame import Frame
from mertd.memory.similarity.moments import Moment, merge_moments
from mertd.memory.similarity.segment_index import SUFFIX
from mertd.memory.similarity.similar import WINDOWS_PER_MOMENT
from mertd.memory.similarity.vector_segment import Floats, SegmentTable, SpanFilter
from mertd.memory.space_statistics import Statistics, blocks
from mertd.memory.space_vectors import SpaceVectors

MOMENTS = 10
"""Moments that are asked for."""

JUDGED = 100
"""Questions whose answers are compared with those of an exact search."""

SEED = 7
"""Of the choice of questions."""


def measure_search(made: MadeMemory, questions: int, workers: int, progress: Callable[[str], object]) -> dict[str, Any]:
    """Return how long building and asking take, what they cost, and how many moments of an exact search are found."""
    begun = time.monotonic()
    made.make(workers, progress)
    written = time.monotonic() - begun
    begun = time.monotonic()
    centre = build_indexes(made.folder, workers, progress)
    built = time.monotonic() - begun
    progress(f"asking {questions} questions")
    rows = question_rows(made.music.count, questions)
    vectors = _vectors(made.folder, rows)
    asked = ask_elsewhere(made.folder, rows, vectors)
    progress("looking at every vector")
    begun = time.monotonic()
    truth = search_exactly(made.folder, rows[:JUDGED], vectors[:JUDGED], centre.mean, workers)
    exact = time.monotonic() - begun
    answers = [[Moment(**moment) for moment in moments] for moments in asked.pop("answers")]
    paths = segments(made.folder)
    return {
        "vectors": made.music.count,
        "files": len(paths),
        "in_open_file": made.music.count - sum(len(SpaceVectors(Segment(path), SPACE).table()) for path in paths[:-1]),
        "questions": questions,
        "written_s": written,
        "built_s": built,
        "raw_bytes": 2 * made.music.size * made.music.count,
        "file_bytes": sum(path.stat().st_size for path in paths),
        "index_bytes": sum(path.stat().st_size for path in made.folder.glob(f"*{SUFFIX}")),
        **asked,
        "recall": recall(truth, answers),
        "exact_ms": 1e3 * exact / len(truth),
    }


def build_indexes(folder: Path, workers: int, progress: Callable[[str], object]) -> Centre:
    """Build what the search needs, in several processes, and return the centre of the space."""
    paths = segments(folder)
    centre: Centre | None = None
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done, part in enumerate(pool.map(_centre_of, paths), 1):
            progress(f"centre of {done} of {len(paths)} files")
            found = Centre.from_bytes(part)
            if centre is None:
                centre = Centre(found.size)
            centre.merge(found)
        assert centre is not None
        frame = _index(centre.to_bytes(), None, paths[0]) if len(paths) > 1 else None
        for done, _ in enumerate(pool.map(partial(_index, centre.to_bytes(), frame), paths[1:-1]), 2):
            progress(f"index of {done} of {len(paths) - 1} files")
        groups = complete_groups([number_of(path) for path in paths[:-1]], number_of(paths[-1])).values()
        together = [[path for path in paths if number_of(path) in numbers] for numbers in groups]
        for done, _ in enumerate(pool.map(partial(_index_group, centre.to_bytes(), frame), together), 1):
            progress(f"index of {done} of {len(together)} groups of files")
    return centre


def _centre_of(path: Path) -> bytes:
    with Segment(path) as segment:
        if segment.closed:
            found = SearchedFile(segment, SPACE)
            found.refresh(lambda _: None)
            return found.statistics.centre.to_bytes()
        vectors = SpaceVectors(segment, SPACE)
        statistics = Statistics(vectors.size)
        for table, values in blocks(vectors):
            statistics.add(table, values)
        return statistics.centre.to_bytes()


def _index(centre: bytes, frame: tuple[Floats, Floats] | None, path: Path) -> tuple[Floats, Floats] | None:
    """Build the index of a file, in the frame of another one. Return its own."""
    with Segment(path) as segment:
        part = SearchedFile(segment, SPACE)
        part.refresh(lambda _: None)
        part.ensure_index(Centre.from_bytes(centre), lambda _: None, None if frame is None else Frame(*frame))
        return None if part.frame is None else (part.frame.mean.copy(), part.frame.basis.copy())


def _index_group(centre: bytes, frame: tuple[Floats, Floats] | None, paths: Sequence[Path]) -> None:
    """Build the index of a group of files."""
    with ExitStack() as stack:
        parts = [SearchedFile(stack.enter_context(Segment(path)), SPACE) for path in paths]
        for part in parts:
            part.refresh(lambda _: None)
        FileGroup(parts).ensure_index(Centre.from_bytes(centre), lambda _: None, None if frame is None else Frame(*frame))


def question_rows(vectors: int, questions: int) -> list[int]:
    """Return the windows that are asked for."""
    rows: list[int] = np.random.default_rng(SEED).integers(0, vectors, questions).tolist()
    return rows


def _vectors(folder: Path, rows: Sequence[int]) -> NDArray[np.float32]:
    """Return the vectors of windows by their numbers, (rows, size)."""
    starts = BEGIN_NS + np.array(rows, np.int64) * HOP_NS
    found: NDArray[np.float32] | None = None
    for path in segments(folder):
        with Segment(path) as segment:
            vectors = SpaceVectors(segment, SPACE)
            table = vectors.table().in_order()
            place = np.minimum(np.searchsorted(table.start_ns, starts), len(table) - 1)
            here = table.start_ns[place] == starts
            found = np.empty((len(rows), vectors.size), np.float32) if found is None else found
            found[here] = vectors.vectors(table.ids[place[here]])
    assert found is not None
    return found


def own_span(row: int) -> SpanFilter:
    """Return the filter that leaves out what overlaps a window: it would be the best answer to itself."""
    start = BEGIN_NS + row * HOP_NS
    return SpanFilter(without=((start, start + WINDOW_NS),))


def search_exactly(
    folder: Path, rows: Sequence[int], vectors: NDArray[np.float32], mean: Floats, workers: int
) -> list[list[Moment]]:
    """Return for each window the moments that an exact search finds; all are searched in one pass over the vectors."""
    look = partial(_look_at_all, rows, centred_units(vectors, mean), mean)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        by_file = list(pool.map(look, segments(folder)))
    found: list[list[Moment]] = []
    for parts in zip(*by_file, strict=True):
        names = SegmentTable.__dataclass_fields__
        table = SegmentTable(*(np.concatenate([getattr(part, name) for part, _ in parts]) for name in names))
        found.append(merge_moments(table, np.concatenate([scores for _, scores in parts]), MOMENTS))
    return found


def _look_at_all(rows: Sequence[int], units: Floats, mean: Floats, path: Path) -> list[tuple[SegmentTable, Floats]]:
    """Return the best windows of a file for each question, and their similarities."""
    with Segment(path) as segment:
        vectors = SpaceVectors(segment, SPACE)
        table = vectors.table()
        parts = [centred_units(values, mean) @ units.T for _, values in blocks(vectors)]
    scores = np.concatenate(parts)
    found: list[tuple[SegmentTable, Floats]] = []
    for at, row in enumerate(rows):
        allowed = np.where(own_span(row)(table), scores[:, at], -np.inf).astype(np.float32)
        best = best_rows(allowed, WINDOWS_PER_MOMENT * MOMENTS)
        found.append((table.take(best), allowed[best]))
    return found


def recall(truth: Sequence[Sequence[Moment]], answers: Sequence[Sequence[Moment]]) -> float:
    """Return the share of the moments in `truth` that overlap a moment of the answer to the same question."""
    pairs = [(moment, answer) for moments, answer in zip(truth, answers, strict=False) for moment in moments]
    found = sum(any(m.start_ns < moment.end_ns and moment.start_ns < m.end_ns for m in answer) for moment, answer in pairs)
    return found / len(pairs)


def ask_elsewhere(folder: Path, rows: Sequence[int], vectors: NDArray[np.float32]) -> dict[str, Any]:
    """Ask in another process, and return the times and the answers."""
    given = folder / "questions.npz"
    np.savez(given, rows=np.array(rows), vectors=vectors)
    command = [sys.executable, "-m", "mertd.bench.moment_search", str(folder), str(given), str(time.monotonic())]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def ask(folder: Path, given: Path, begun: float) -> dict[str, Any]:
    """Ask, in this process, and return the times and the answers. The first answer includes the start of the process."""
    with np.load(given) as content:
        rows, vectors = content["rows"].tolist(), content["vectors"]
    search = SimilarSearch(folder, SPACE)
    times: list[float] = []
    answers: list[list[Moment]] = []
    first_s = 0.0
    for number, at in zip(count(), [-1, *range(len(rows))], strict=False):
        asked = time.monotonic()
        found = search.find(vectors[at], MOMENTS, own_span(rows[at]))
        if number:
            times.append(1e3 * (time.monotonic() - asked))
            answers.append(found)
        else:
            first_s = time.monotonic() - begun
    return {
        "first_s": first_s,
        "ask_ms": percentiles(times),
        "own_mb": own_mb(),
        "answers": [[moment.__dict__ for moment in found] for found in answers[:JUDGED]],
    }


def own_mb() -> float:
    """Return the megabytes of this process that are no mapped files; all of its memory where the system cannot tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return next(float(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(ask(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))))
