"""Compiled kernels are read as they were written, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mertd.embed.backends.kernel_store import FOLDER, KernelStore
from mertd.embed.private_cache import open_folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("MLX_PTX_CACHE_DIR", "")
    monkeypatch.delenv("MLX_PTX_CACHE_DIR")


def test_kernels_are_those_of_one_device() -> None:
    store = KernelStore("sm_90")
    store.put("a", b"\x7fELF")
    assert KernelStore("sm_90").get("a") is None, "a backend that has not passed its check keeps nothing"
    store.save()
    assert KernelStore("sm_90").get("a") == b"\x7fELF"
    assert KernelStore("sm_100").get("a") is None


def test_two_processes_keep_what_both_have_compiled() -> None:
    one, two = KernelStore("x"), KernelStore("x")
    one.put("a", b"1")
    two.put("b", b"2")
    one.save()
    two.save()
    assert (KernelStore("x").get("a"), KernelStore("x").get("b")) == (b"1", b"2")


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c[:10], lambda c: c[:40] + b"!" + c[41:], lambda _: b""])
def test_a_damaged_file_counts_as_absent(damage: object) -> None:
    store = KernelStore("x")
    store.put("a", bytes(100))
    store.save()
    (file,) = open_folder(FOLDER).iterdir()
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    again = KernelStore("x")
    assert again.get("a") is None
    again.put("a", b"1")
    again.save()
    assert KernelStore("x").get("a") == b"1"


def test_mlx_gets_a_folder_of_its_own_and_what_it_leaves_there_is_kept() -> None:
    store = KernelStore("x")
    store.lend_to_mlx()
    folder = Path(os.environ.pop("MLX_PTX_CACHE_DIR"))
    assert not list(folder.iterdir())
    for suffix in ("ptx", "txt", "cu"):
        (folder / f"gelu.{suffix}").write_text(suffix)
    store.save()
    assert not folder.exists()
    next_one = KernelStore("x")
    next_one.lend_to_mlx()
    folder = Path(os.environ["MLX_PTX_CACHE_DIR"])
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"gelu.ptx": "ptx", "gelu.txt": "txt"}
    next_one.save()


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_PTX_CACHE_DIR", "/somewhere")
    store = KernelStore("x")
    store.lend_to_mlx()
    assert os.environ["MLX_PTX_CACHE_DIR"] == "/somewhere"
    store.save()


def test_where_nothing_can_be_kept_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    store = KernelStore("x")
    store.lend_to_mlx()
    store.put("a", b"1")
    store.save()
    assert store.get("a") == b"1"
    assert "MLX_PTX_CACHE_DIR" not in os.environ


def test_what_a_killed_process_has_left_is_removed() -> None:
    left = open_folder("kernels-in-use") / "old"
    left.mkdir()
    (left / "x.ptx").write_text("x")
    os.utime(left, (1, 1))
    KernelStore("x").lend_to_mlx()
    assert not left.exists()
