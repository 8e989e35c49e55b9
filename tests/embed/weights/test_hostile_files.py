"""Weights files from strangers are refused by what they claim, before they are read: fast, in little memory, in few words."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from embed.weights.hostile import ARCHIVES, BIAS, GIGABYTE, SAFETENSORS, SPECIAL, names, sparse_storage, views, with_dtype
from mertd.embed.weights.checkpoint import fingerprint, import_checkpoint
from mertd.embed.weights.loading import from_file, load
from mertd.errors import WeightsError

MAX_MEMORY = 16 << 20
"""Bytes: room for the largest header that is parsed at all, 1 MB of JSON."""

MAX_ERROR = 2_000
"""Characters of an error, of which the path is a part."""

READERS = {"load": from_file, "import": import_checkpoint}


def refusal(read: Callable[[Path], object], path: Path) -> str:
    """What the error says, which `read` must raise without using much memory."""
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError) as caught:
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MAX_MEMORY
    assert len(str(caught.value)) < MAX_ERROR
    return str(caught.value)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", SAFETENSORS)
def test_a_hostile_safetensors_file_is_refused(tmp_path: Path, kind: str, reader: str) -> None:
    path = tmp_path / "x.safetensors"
    SAFETENSORS[kind](path)
    refusal(READERS[reader], path)


@pytest.mark.parametrize("kind", ARCHIVES)
def test_a_hostile_archive_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.bin"
    ARCHIVES[kind](path)
    refusal(import_checkpoint, path)
    refusal(from_file, path)


@pytest.mark.parametrize("kind", SPECIAL)
def test_only_regular_files_are_read(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In particular, a FIFO does not block, and an endless device is not read to its end."""
    monkeypatch.chdir(tmp_path)  # the address of a socket must be short
    path = tmp_path / "x.safetensors"
    SPECIAL[kind](path)
    for read in (from_file, import_checkpoint, fingerprint):
        refusal(read, path)


@pytest.mark.slow
def test_the_header_is_judged_in_linear_time(tmp_path: Path) -> None:
    """Four times the names take about four times as long, and not sixteen."""

    def took(count: int) -> float:
        path = tmp_path / str(count)
        path.write_bytes(names(count))
        best = float("inf")
        gc.disable()  # a collection takes as long as everything else in this process demands
        try:
            for _ in range(5):
                start = time.process_time()
                with pytest.raises(WeightsError, match=f"{count} unexpected"):
                    from_file(path)
                best = min(best, time.process_time() - start)
        finally:
            gc.enable()
        return best

    assert took(8_000) < 9 * took(2_000)


def test_what_is_read_is_bounded_by_the_model(tmp_path: Path) -> None:
    sparse_storage(views(GIGABYTE), GIGABYTE)(tmp_path / "x.bin")
    says = refusal(import_checkpoint, tmp_path / "x.bin")
    assert "its tensors lie in 1,073,741,824 bytes; no checkpoint of this model needs over" in says


def test_a_storage_of_many_tensors_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tensors as views of one storage are odd, but not wrong; it is read and checksummed once, not for each of them."""
    import zipfile

    from embed.weights.hostile import crc_of_zeros

    size = 1 << 22
    sparse_storage(views(size), size, crc_of_zeros(size))(tmp_path / "x.bin")
    monkeypatch.setattr("mertd.embed.weights.stored.BYTES_PER_VALUE", 1_000)
    whole, fetched = zipfile.ZipFile.read, []

    def counting(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
        fetched.append(entry.filename)
        return whole(archive, entry)

    monkeypatch.setattr(zipfile.ZipFile, "read", counting)
    found = import_checkpoint(tmp_path / "x.bin")
    assert sorted(fetched) == ["a/data.pkl", "a/data/0"]
    assert not any(values.any() for values in found.tensors.values())


def test_names_in_an_error_are_few_and_short(tmp_path: Path) -> None:
    SAFETENSORS["900 names of 1,000 characters"](tmp_path / "x")
    says = refusal(from_file, tmp_path / "x")
    assert "209 missing (" in says
    assert "900 unexpected (" in says
    assert says.count("t899") == 0


@pytest.mark.parametrize(("code", "name"), [("F32", "float32"), ("F64", "float64")])
def test_floats_of_other_sizes_can_be_imported_but_not_loaded(tmp_path: Path, code: str, name: str) -> None:
    path = tmp_path / "x.safetensors"
    with_dtype(code, int(code[1:]) // 8)(path)
    assert f"{BIAS} is {name}, not float16 (mertd model import converts a checkpoint)" in refusal(from_file, path)
    assert not import_checkpoint(path).tensors[BIAS].any()


def test_an_odd_dtype_is_named(tmp_path: Path) -> None:
    with_dtype("F8_E8M0", 1)(tmp_path / "x")
    assert f"{BIAS} is F8_E8M0, not float16" in refusal(from_file, tmp_path / "x")
    assert f"cannot read {BIAS}: F8_E8M0 is not float16, float32 or float64" in refusal(import_checkpoint, tmp_path / "x")


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mertd.embed.weights import loading

    path = tmp_path / "x.safetensors"
    loading.save(load("random:0?size=tiny"), path)
    whole = loading.fit

    def after_cut(*args: object) -> object:
        path.write_bytes(path.read_bytes()[:-1_000])
        return whole(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(loading, "fit", after_cut)
    with pytest.raises(WeightsError, match="the file has become shorter meanwhile"):
        loading.from_file(path)
