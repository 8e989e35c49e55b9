from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from memory.stored import small, vector
from mertd.errors import StoreError, UsageError
from mertd.memory.exporting import GROUP, export
from mertd.memory.memory import Memory
from mertd.memory.queries import Selection
from mertd.memory.store import Store
from messages import MODEL, event

OTHER = replace(MODEL, space="other", layers=(1, 2))


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    with Store(tmp_path / "memory") as store:
        store.append([small(seq, trained_on) for seq in range(10) for trained_on in ("a", "b")])
        store.append([small(10, "b", vector=vector(1, 4, 2), model=OTHER), event(0)])
    return Memory(tmp_path / "memory")


def test_npz(memory: Memory, tmp_path: Path) -> None:
    out = tmp_path / "x.npz"
    assert export(memory, out, Selection(streams=("a",))) == 10
    with np.load(out) as found:
        assert found["vector"].shape == (10, 1, 8)
        assert found["seq"].tolist() == list(range(10))
        assert set(found["stream"]) == {"a"}
        assert (np.diff(found["start_ns"]) == 5 * 10**9).all()
        np.testing.assert_allclose(found["vector"][3], vector(3), rtol=2**-11, atol=1e-6)


def test_ndjson_has_what_the_wire_has(memory: Memory, tmp_path: Path) -> None:
    out = tmp_path / "x.ndjson"
    assert export(memory, out, Selection(), events=True) == 22
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {line["kind"] for line in lines} == {"embedding", "event"}
    assert {line["model"]["space"] for line in lines if line["kind"] == "embedding"} == {MODEL.space, "other"}
    assert all(line["replay"] for line in lines)


def test_parquet_is_read_by_others(memory: Memory, tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    assert export(memory, out, Selection(since_ns=5 * 10**9, until_ns=20 * 10**9), MODEL.space) == 6
    table = pq.read_table(out)
    assert table.num_rows == 6
    assert sorted(set(table["seq"].to_pylist())) == [1, 2, 3]
    rows = table.to_pylist()
    for row in rows:
        np.testing.assert_allclose(row["vector"], vector(row["seq"]).ravel(), rtol=2**-11, atol=1e-6)
    assert rows[0]["rms_dbfs"] == -20.5
    assert rows[0]["trained"] is False


def test_what_comes_out_is_what_is_remembered(tmp_path: Path) -> None:
    """Bit by bit, in each format, whatever a stream is called."""
    name = 'bä\0"\n\u2028c'
    with Store(tmp_path / "memory") as store:
        store.append([small(seq, stream, vector=vector(seq, 32)) for seq in range(20) for stream in ("a", name)])
    memory = Memory(tmp_path / "memory")
    expected = [(message.stream, message.seq, message.vector.tobytes()) for message in memory.embeddings()]
    for form in (".npz", ".parquet", ".ndjson"):
        export(memory, (tmp_path / "x").with_suffix(form), Selection())
    arrays = np.load(tmp_path / "x.npz")
    found = zip(arrays["stream"].tolist(), arrays["seq"].tolist(), (one.tobytes() for one in arrays["vector"]), strict=True)
    assert list(found) == expected
    rows = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert [(row["stream"], row["seq"], np.array(row["vector"], np.float32).tobytes()) for row in rows] == expected
    lines = [json.loads(line) for line in (tmp_path / "x.ndjson").read_text("utf-8").split("\n")[:-1]]
    read = [(line["stream"], line["seq"], np.array(line["vector"]["data"], np.float32).tobytes()) for line in lines]
    assert read == expected


def test_more_than_a_group(tmp_path: Path) -> None:
    with Store(tmp_path / "memory") as store:
        store.append([small(seq, vector=np.full((1, 2), seq, np.float32)) for seq in range(GROUP + 3)])
    out = tmp_path / "x.parquet"
    assert export(Memory(tmp_path / "memory"), out, Selection()) == GROUP + 3
    assert pq.read_table(out)["seq"].to_pylist() == list(range(GROUP + 3))


def test_spaces_are_never_mixed(memory: Memory, tmp_path: Path) -> None:
    out = tmp_path / "x.npz"
    with pytest.raises(UsageError, match="vectors of 2 spaces may not be compared; choose one with --space: "):
        export(memory, out, Selection())
    assert export(memory, out, Selection(), "other") == 1
    with pytest.raises(UsageError, match="--space third: no such space; choose one of"):
        export(memory, out, Selection(), "third")


@pytest.mark.parametrize("name", ["x.npz", "x.parquet"])
def test_nothing_is_written_if_there_is_nothing(memory: Memory, tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="no embeddings"):
        export(memory, tmp_path / name, Selection(streams=("c",)))
    assert not (tmp_path / name).exists()


def test_mistakes(memory: Memory, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown kind of file; name it with \.npz, \.ndjson, \.parquet"):
        export(memory, tmp_path / "x.csv", Selection())
    with pytest.raises(UsageError, match="events have no vectors"):
        export(memory, tmp_path / "x.npz", Selection(), events=True)
    with pytest.raises(StoreError, match="cannot be written: No such file or directory"):
        export(memory, tmp_path / "nowhere" / "x.ndjson", Selection())


def test_the_command(memory: Memory, tmp_path: Path) -> None:
    out = tmp_path / "x.npz"
    words = ["memory", "export", str(out), "--memory", str(memory.folder), "--space", "other", "--from", "1970-01-01"]
    done = subprocess.run([sys.executable, "-m", "mertd", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{out}: 1 messages"
