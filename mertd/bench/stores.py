"""mertd's memory beside what a user would build, in one run: append, query, bytes on disk, and what single appends cost."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mertd.bench.contenders import STORES, VectorStore, exact_nearest, folder_size, missing
from mertd.bench.measure import Spread, take_turns
from mertd.bench.music_vectors import PIECE_WINDOWS, MusicVectors
from mertd.memory.similarity.vector_segment import Floats

NEAREST = 10
"""Vectors, or moments, that are asked for."""

BULK = 512
"""Vectors of one append in bulk."""

TURN = 25
"""Single appends of one store before the next one has its turn."""

JUDGED_ROWS = 65_536
"""Vectors that are compared at once by the judge."""

BUILT = (".similar", ".centre", ".npy", ".idx")
"""Endings of files that can be built again from the others; in a table of LanceDB, all below `_indices`."""


def measure_stores(
    names: Sequence[str], vectors: int, singles: int, questions: int, progress: Callable[[str], object]
) -> dict[str, Any]:
    """Return a row for each store, and why others are left out. Stores take turns with everything."""
    notes = {name: missing(name) for name in names}
    used = [name for name in ("mertd", *names) if not notes.get(name)]
    music = MusicVectors(max(1, (vectors + singles) // PIECE_WINDOWS + 1))
    given = np.concatenate(list(music.blocks()))[: vectors + singles]
    with tempfile.TemporaryDirectory(prefix="mertd-") as name:
        folders = {store: Path(name, store) for store in used}
        for folder in folders.values():
            folder.mkdir()
        stores = {store: STORES[store](folders[store], music.size) for store in used}
        rows: dict[str, dict[str, Any]] = {store: {"name": store} for store in used}
        took = _append(stores, given[:vectors], BULK, 1, progress)
        for store in used:
            began = time.perf_counter()
            progress(f"{store}: preparing")
            stores[store].prepare()
            rows[store] |= {"bulk_per_s": vectors / took[store], "prepare_s": time.perf_counter() - began}
            rows[store] |= _disk(folders[store], 2 * music.size * vectors)
        _ask(stores, rows, given[:vectors], questions, progress)
        before = {store: folder_size(folders[store]) for store in used}
        took = _append(stores, given[vectors:], 1, TURN, progress)
        for store in used:
            size, files = folder_size(folders[store])
            rows[store]["single_per_s"] = singles / took[store]
            rows[store]["single_bytes"] = (size - before[store][0]) / singles
            rows[store]["single_files"] = files - before[store][1]
            stores[store].close()
    return {
        "vectors": vectors,
        "singles": singles,
        "rows": list(rows.values()),
        "notes": [note for note in notes.values() if note],
    }


def _append(
    stores: dict[str, VectorStore], vectors: NDArray[np.float16], batch: int, turn: int, progress: Callable[[str], object]
) -> dict[str, float]:
    """Append vectors to all stores, and return the seconds that each took. `turn`: batches of one store in a row."""
    took = dict.fromkeys(stores, 0.0)
    for first in range(0, len(vectors), batch * turn):
        progress(f"{first:,} of {len(vectors):,} vectors, {batch} at a time")
        part = vectors[first : first + batch * turn].astype(np.float32)
        for name, store in stores.items():
            began = time.perf_counter()
            for at in range(0, len(part), batch):
                store.append(part[at : at + batch])
            took[name] += time.perf_counter() - began
    return took


def _disk(folder: Path, raw: int) -> dict[str, Any]:
    """Return the bytes on disk, without what can be built again, and that."""
    whole, files = folder_size(folder)
    built = sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and (path.suffix in BUILT or "_indices" in path.parts)
    )
    return {"bytes": whole - built, "index_bytes": built, "files": files, "of_raw": (whole - built) / raw}


def _ask(
    stores: dict[str, VectorStore],
    rows: dict[str, dict[str, Any]],
    vectors: NDArray[np.float16],
    questions: int,
    progress: Callable[[str], object],
) -> None:
    """Ask all stores the same questions, and add to their rows how long it took and how much was found."""
    asked = np.random.default_rng(3).integers(0, len(vectors), questions)
    queries = vectors[asked].astype(np.float32)
    answers: dict[str, list[list[int]]] = {name: [] for name in stores}

    def ask(name: str, turn: list[int]) -> None:
        answers[name].append(stores[name].nearest(queries[turn[0] % questions], NEAREST))
        turn[0] += 1

    times = take_turns({name: partial(ask, name, [0]) for name in stores}, questions, progress)
    truth = [_nearest(vectors, query) for query in queries]
    for name, row in rows.items():
        row["ask_ms"] = Spread.of(times[name], 1e3).as_json()
        if name != "mertd":  # which answers moments: how many of these are found is measured apart
            found = [len({*got} & {*right}) / NEAREST for got, right in zip(answers[name], truth, strict=False)]
            row["recall"] = float(np.mean(found))


def _nearest(vectors: NDArray[np.float16], query: Floats) -> list[int]:
    found: list[tuple[float, int]] = []
    for first in range(0, len(vectors), JUDGED_ROWS):
        part = vectors[first : first + JUDGED_ROWS].astype(np.float32)
        for row in exact_nearest(part, query, NEAREST):
            found.append((float(part[row] @ query / np.linalg.norm(part[row])), first + row))
    return [row for _, row in sorted(found, reverse=True)[:NEAREST]]
