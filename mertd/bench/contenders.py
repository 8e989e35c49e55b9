"""What a user would build to keep vectors and find them again, each with its usual settings, and mertd's memory beside them.

Each appends vectors, which are numbered from 0, and returns the numbers of those nearest to one.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mertd.bench.made_memory import BEGIN_NS, HOP_NS, SPACE, message
from mertd.errors import UsageError, did_you_mean
from mertd.memory.index_builder import IndexBuilder
from mertd.memory.similar_search import SimilarSearch
from mertd.memory.similarity.vector_segment import Floats
from mertd.memory.store import Store

REFINED = 10
"""Candidates of LanceDB's index that are compared exactly, for each vector asked for."""

INDEXED_FROM = 20_000
"""Fewest vectors for which LanceDB's index is built: it groups them, and would have too few to group."""

BLOCK = 65_536
"""Vectors that numpy turns into float32 at once."""


class VectorStore(Protocol):
    """A place for vectors, in a folder of its own."""

    def append(self, vectors: Floats) -> None:
        """Store vectors, (n, size), in one transaction."""

    def prepare(self) -> None:
        """Build what makes queries fast, as a user would once there are many vectors."""

    def nearest(self, vector: Floats, count: int) -> list[int]:
        """Return the numbers of the nearest vectors, nearest first."""

    def close(self) -> None:
        """Let go of all files."""


class MertdStore:
    """mertd's memory: it stores whole messages, and answers moments, in which overlapping windows are one."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._store = Store(folder)
        self._search = SimilarSearch(folder, SPACE)
        self._count = 0
        self.size = size

    def append(self, vectors: Floats) -> None:
        self._store.append([message(self._count + at, vector) for at, vector in enumerate(vectors)])
        self._count += len(vectors)

    def prepare(self) -> None:
        IndexBuilder(self._folder).build()

    def nearest(self, vector: Floats, count: int) -> list[int]:
        return [(moment.best_start_ns - BEGIN_NS) // HOP_NS for moment in self._search.find(vector, count)]

    def close(self) -> None:
        self._search.close()
        self._store.close()


class NumpyFile:
    """A file of float16 numbers to which is appended, each time onto the disk; all of it in memory as float32 for queries."""

    def __init__(self, folder: Path, size: int) -> None:
        self._path = folder / "vectors.f16"
        self._file = self._path.open("ab")
        self._units = np.zeros((0, size), np.float32)
        self.size = size

    def append(self, vectors: Floats) -> None:
        self._file.write(vectors.astype(np.float16).tobytes())
        self._file.flush()
        os.fsync(self._file.fileno())

    def prepare(self) -> None:
        stored = np.memmap(self._path, np.float16, "r").reshape(-1, self.size)
        self._units = np.empty(stored.shape, np.float32)
        for first in range(0, len(stored), BLOCK):
            part = stored[first : first + BLOCK].astype(np.float32)
            self._units[first : first + BLOCK] = part / np.linalg.norm(part, axis=1, keepdims=True)

    def nearest(self, vector: Floats, count: int) -> list[int]:
        scores = self._units @ (vector / np.linalg.norm(vector))
        best = np.argpartition(scores, -count)[-count:]
        return [int(row) for row in best[np.argsort(-scores[best])]]

    def close(self) -> None:
        self._file.close()


class LanceTable:
    """A table of LanceDB with float16 vectors, and its default index once there are enough of them."""

    def __init__(self, folder: Path, size: int) -> None:
        self._arrow: Any = importlib.import_module("pyarrow")
        kind = self._arrow.list_(self._arrow.float16(), size)
        self._schema = self._arrow.schema([("number", self._arrow.int64()), ("vector", kind)])
        database = importlib.import_module("lancedb").connect(str(folder))
        self._table: Any = database.create_table("vectors", schema=self._schema)
        self._count = 0
        self._indexed = False
        self.size = size

    def append(self, vectors: Floats) -> None:
        arrow = self._arrow
        numbers = arrow.array(range(self._count, self._count + len(vectors)), arrow.int64())
        values = arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.astype(np.float16).ravel()), self.size)
        self._table.add(arrow.table({"number": numbers, "vector": values}, schema=self._schema))
        self._count += len(vectors)

    def prepare(self) -> None:
        if self._count >= INDEXED_FROM:
            self._table.create_index(metric="cosine", vector_column_name="vector")
            self._indexed = True

    def nearest(self, vector: Floats, count: int) -> list[int]:
        query = (
            self._table.search(vector.astype(np.float16)).distance_type("cosine").limit(count).select(["number", "_distance"])
        )
        if self._indexed:
            query = query.refine_factor(REFINED)
        found: list[int] = query.to_arrow().column("number").to_pylist()
        return found

    def close(self) -> None:
        pass


class SqliteVec:
    """A table of sqlite-vec in an SQLite file of default settings, with float32 vectors, as it has no smaller floats."""

    def __init__(self, folder: Path, size: int) -> None:
        self._run, self._transaction, self._close = _open_with_extension(folder / "vectors.db")
        self._run(f"CREATE VIRTUAL TABLE vectors USING vec0(vector FLOAT[{size}] DISTANCE_METRIC=cosine)", ())
        self._count = 0
        self.size = size

    def append(self, vectors: Floats) -> None:
        with self._transaction():
            for vector in vectors:
                self._run("INSERT INTO vectors (rowid, vector) VALUES (?, ?)", (self._count, vector.tobytes()))
                self._count += 1

    def prepare(self) -> None:
        """It has no index."""

    def nearest(self, vector: Floats, count: int) -> list[int]:
        found = self._run(
            "SELECT rowid FROM vectors WHERE vector MATCH ? AND k = ? ORDER BY distance", (vector.tobytes(), count)
        )
        return [row for (row,) in found]

    def close(self) -> None:
        self._close()


def _open_with_extension(
    path: Path,
) -> tuple[Callable[[str, tuple[Any, ...]], list[Any]], Callable[[], Any], Callable[[], None]]:
    """Return functions that execute a statement, give a transaction, and close; through apsw if Python loads no extensions."""
    extension: str = importlib.import_module("sqlite_vec").loadable_path()
    if hasattr(sqlite3.Connection, "enable_load_extension"):
        database = sqlite3.connect(path)
        database.enable_load_extension(True)
        database.load_extension(extension)
        return lambda text, values: database.execute(text, values).fetchall(), lambda: database, database.close
    other: Any = importlib.import_module("apsw").Connection(str(path))
    other.enable_load_extension(True)
    other.load_extension(extension)
    return lambda text, values: list(other.execute(text, values)), lambda: other, other.close


STORES: Mapping[str, Callable[[Path, int], VectorStore]] = {
    "mertd": MertdStore,
    "numpy": NumpyFile,
    "lancedb": LanceTable,
    "sqlite-vec": SqliteVec,
}
"""By the names that `--against` takes."""


def missing(name: str) -> str:
    """Return why a store cannot be measured here; empty if it can. Raises `UsageError` for an unknown one."""
    if name not in STORES:
        hint = did_you_mean(name, [*STORES])
        raise UsageError(f"--against {name!r}: unknown store; choose one of {', '.join([*STORES][1:])}{hint}")
    needs = {"lancedb": ("lancedb",), "sqlite-vec": ("sqlite_vec",)}.get(name, ())
    absent = [package for package in needs if importlib.util.find_spec(package) is None]
    if absent:
        return f"{name} is left out: it is not installed; `uv run --with {name} mertd bench …` measures it"
    loads = hasattr(sqlite3.Connection, "enable_load_extension") or importlib.util.find_spec("apsw") is not None
    if name == "sqlite-vec" and not loads:
        return "sqlite-vec is left out: this Python's SQLite loads no extensions; add `--with apsw`, which does"
    return ""


def folder_size(folder: Path) -> tuple[int, int]:
    """Return the bytes and the number of all files in a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files), len(files)


def exact_nearest(vectors: NDArray[np.float32], query: Floats, count: int) -> list[int]:
    """Return the numbers of the nearest vectors by their plain cosine, nearest first."""
    scores = vectors @ query / np.linalg.norm(vectors, axis=1)
    return [int(row) for row in np.argsort(-scores)[:count]]
