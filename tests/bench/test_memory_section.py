"""The measurements of the memory for real, only small."""

from __future__ import annotations

import importlib.util
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mertd.bench import contenders, stores, week
from mertd.bench.contenders import STORES, exact_nearest, missing
from mertd.bench.made_memory import MadeMemory
from mertd.bench.memory_section import measure_memory
from mertd.bench.moment_search import measure_search
from mertd.bench.music_vectors import MusicVectors
from mertd.bench.sections import Plan
from mertd.cli.bench_memory_report import show_memory
from mertd.cli.output import new_console
from mertd.errors import UsageError


def quiet(_: str) -> None:
    """No progress is shown."""


def test_the_same_seed_makes_the_same_music_and_one_direction_is_common() -> None:
    music = MusicVectors(3, 96)
    vectors = np.concatenate(list(music.blocks())).astype(np.float32)
    assert vectors.shape == (music.count, 96)
    assert (vectors == np.concatenate(list(MusicVectors(3, 96).blocks()))).all()
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert (units @ units.T).min() > 0.8


@pytest.mark.parametrize("name", ["mertd", "numpy"])
def test_a_store_finds_what_it_was_given(name: str, tmp_path: Path) -> None:
    vectors = np.concatenate(list(MusicVectors(3, 64).blocks())).astype(np.float32)
    store = STORES[name](tmp_path, 64)
    store.append(vectors[:-1])
    store.append(vectors[-1:])
    store.prepare()
    found = store.nearest(vectors[77], 3)
    assert found[0] == 77 == exact_nearest(vectors, vectors[77], 1)[0]
    store.close()


def test_what_cannot_be_measured_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not missing("numpy")
    with pytest.raises(UsageError, match="unknown store; choose one of numpy, lancedb, sqlite-vec; did you mean"):
        missing("lance")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert "lancedb is left out: it is not installed" in missing("lancedb")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "apsw" else object())
    monkeypatch.setattr(contenders.sqlite3, "Connection", type("Connection", (), {}))
    assert "loads no extensions" in missing("sqlite-vec")
    monkeypatch.undo()
    assert hasattr(sqlite3.Connection, "execute")


def test_stores_are_measured_side_by_side() -> None:
    found = stores.measure_stores(["numpy", "lancedb"], 600, 20, 5, quiet)
    rows = {row["name"]: row for row in found["rows"]}
    assert {"mertd", "numpy"} <= set(rows)
    assert rows["numpy"]["recall"] == 1
    assert rows["numpy"]["of_raw"] == 1
    assert rows["numpy"]["single_bytes"] == 2 * 768
    assert all(row["bulk_per_s"] > 0 and row["single_per_s"] > 0 and row["ask_ms"]["count"] == 5 for row in rows.values())
    assert "lancedb" in rows or "lancedb is left out" in found["notes"][0]


@pytest.mark.slow
def test_the_search_is_measured_in_full_files_and_an_open_one(tmp_path: Path) -> None:
    found = measure_search(MadeMemory(tmp_path, MusicVectors(600), 1, 1), 20, 2, quiet)
    assert (found["files"], found["vectors"], found["in_open_file"]) == (2, 24_000, 24_000 - 512 * 40)
    assert found["recall"] > 0.9
    assert found["index_bytes"] > 100_000
    assert 0 < found["ask_ms"]["p50"] <= found["ask_ms"]["p99"]


@pytest.mark.slow
def test_a_week_stores_everything_in_files_of_the_predicted_size() -> None:
    found = week.measure_week(2_000, 5, quiet)
    assert found["files"] >= 4
    assert 0.5 < found["bytes"] / found["predicted_bytes"] < 2
    assert all(found[key]["end"] > 10 for key in ("remembering_mb", "publishing_mb"))


def test_the_tables_show_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "name": "mertd",
        "bulk_per_s": 1.0,
        "single_per_s": 2.0,
        "ask_ms": {"median": 3.0},
        "of_raw": 1.09,
        "index_bytes": 4e6,
    }
    found: dict[str, Any] = {
        "search": {
            "vectors": 1_000,
            "files": 2,
            "in_open_file": 500,
            "ask_ms": {"p50": 12.5, "p99": 40.0, "count": 9},
            "recall": 0.987,
            "first_s": 1.5,
            "own_mb": 353.0,
            "file_bytes": 109,
            "raw_bytes": 100,
            "index_bytes": 8e6,
            "built_s": 7.0,
        },
        "stores": {"vectors": 1_000, "singles": 10, "notes": ["numpy is left out"]},
        "week": {
            "vectors": 2_000,
            "share_of_week": 0.01,
            "files": 235,
            "bytes": 102,
            "predicted_bytes": 100,
            "per_s": 3_000.0,
            "remembering_mb": {"half": 60.0, "end": 61.0},
            "publishing_mb": {"half": 50.0, "end": 51.0},
        },
        "publishing": {"with": {"p99": 2.0}, "without": {"p99": 1.0}, "p99_ratio": 2.0},
    }
    found["stores"]["rows"] = [{**row, "single_bytes": 5.0, "single_files": 6}]
    show_memory(new_console(width=120), found)
    shown = capsys.readouterr().out
    for text in ("12.5 ms, 40.0 ms, 9", "0.987", "353 MB", "1.090", "numpy is left out", "60 MB, 61 MB", "1.020", "ratio 2.00"):
        assert text in shown


@pytest.mark.slow
def test_the_section_as_a_whole() -> None:
    found = measure_memory(Plan(["memory"], quick=True, vectors=1_000, week=1_000), quiet)
    assert set(found) == {"search", "stores", "week", "publishing"}
    assert found["publishing"]["p99_ratio"] > 0
