"""The file that a batch makes: checked before the work, replaced in one step, through links, and never by less."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mertd.defaults import SAMPLE_RATE
from mertd.embed.embedder import Embedder
from mertd.errors import MertdError
from mertd.files import replaceable
from mertd.offline.outputs import FileOutput, windows_in
from offline.batches import embed_batch, small_embedder
from signals import chord_progression


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return small_embedder()


@pytest.fixture
def songs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.wav"):
        soundfile.write(name, chord_progression(1.2), SAMPLE_RATE)
    return tmp_path


@pytest.mark.parametrize("suffix", [".npz", ".ndjson"])
def test_an_empty_result_never_replaces_a_good_file(songs: Path, embedder: Embedder, suffix: str) -> None:
    out = songs / f"x{suffix}"
    embed_batch(embedder, ["a.wav"], out)
    good = out.read_bytes()
    assert windows_in(out, suffix) == 1
    heard = embed_batch(embedder, ["gone.wav"], out)
    assert f"nothing was embedded; {out} is left as it was" in heard.lines
    assert out.read_bytes() == good
    assert not list(songs.glob("*.partial"))


@pytest.mark.parametrize("suffix", [".npz", ".ndjson"])
def test_a_file_that_is_replaced_by_less_because_something_failed_is_kept_too(
    songs: Path, embedder: Embedder, suffix: str
) -> None:
    out = songs / f"x{suffix}"
    embed_batch(embedder, ["a.wav", "b.wav"], out)
    good = out.read_bytes()
    (songs / "b.wav").unlink()
    heard = embed_batch(embedder, ["a.wav", "b.wav"], out)
    assert windows_in(out, suffix) == 1
    assert (songs / f"x{suffix}~").read_bytes() == good
    assert any(f"x{suffix}~" in line for line in heard.lines)
    (songs / f"x{suffix}~").unlink()
    embed_batch(embedder, ["a.wav"], out)
    assert not (songs / f"x{suffix}~").exists(), "fewer were asked for, and all went well"


def test_links_and_permissions_stay(songs: Path, embedder: Embedder) -> None:
    (songs / "far").mkdir()
    real = songs / "far" / "real.npz"
    real.write_bytes(b"old")
    real.chmod(0o640)
    (songs / "second.npz").symlink_to("far/real.npz")
    out = songs / "first.npz"
    out.symlink_to(songs / "second.npz")
    embed_batch(embedder, ["a.wav"], out)
    assert out.readlink() == songs / "second.npz"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert windows_in(real, ".npz") == 1
    assert sorted(path.name for path in (songs / "far").iterdir()) == ["real.npz"]


def test_a_link_to_a_file_that_does_not_exist_yet(songs: Path, embedder: Embedder) -> None:
    out = songs / "x.npz"
    out.symlink_to("later.npz")
    embed_batch(embedder, ["a.wav"], out)
    assert out.is_symlink()
    assert windows_in(songs / "later.npz", ".npz") == 1


def test_the_same_input_gives_the_same_bytes(songs: Path, embedder: Embedder) -> None:
    for suffix in (".npz", ".ndjson"):
        embed_batch(embedder, ["a.wav", "b.wav"], songs / f"1{suffix}")
        embed_batch(embedder, ["a.wav", "b.wav"], songs / f"2{suffix}")
        assert (songs / f"1{suffix}").read_bytes() == (songs / f"2{suffix}").read_bytes()


@pytest.mark.parametrize("stem", ["caf\udce9", "x" * 251, "ü" * 125])
def test_any_name_that_a_file_can_have(songs: Path, embedder: Embedder, stem: str) -> None:
    out = songs / f"{stem}.npz"
    embed_batch(embedder, ["a.wav"], out, finish=False)
    heard = embed_batch(embedder, ["a.wav"], out)
    assert "continuing an interrupted run" in heard.lines[0]
    assert windows_in(out, ".npz") == 1
    assert sorted(path.name for path in songs.iterdir()) == sorted(["a.wav", "b.wav", out.name])


def make_folder(out: Path) -> None:
    out.mkdir()


def make_fifo(out: Path) -> None:
    os.mkfifo(out)


def make_circle(out: Path) -> None:
    out.symlink_to(out.name)


def make_link_into_nothing(out: Path) -> None:
    out.symlink_to("/nowhere/x.npz")


def make_device(out: Path) -> None:
    out.symlink_to("/dev/full")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (make_folder, "is a directory"),
        (make_fifo, "is a FIFO"),
        (make_circle, "symbolic links"),
        (make_link_into_nothing, "directory does not exist"),
        (make_device, "is a character device"),
    ],
)
def test_what_cannot_be_replaced_is_found_before_the_work(songs: Path, make, says: str) -> None:  # type: ignore[no-untyped-def]
    out = songs / "x.npz"
    make(out)
    with pytest.raises(MertdError, match=says) as raised:
        FileOutput(out, resume=True)
    assert str(raised.value).startswith(f"--out {out}")
    assert not list(songs.glob("*.partial"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")
def test_a_link_that_another_user_has_made_where_anyone_may_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    link = shared / "x.npz"
    link.symlink_to(precious)
    assert replaceable(link) == precious
    os.lchown(link, 12345, 12345)
    with pytest.raises(MertdError, match="a link that another user has made"):
        replaceable(link)
    planted = shared / "y.npz.partial"
    planted.touch()
    os.chown(planted, 12345, 12345)
    with pytest.raises(MertdError, match="belongs to another user"):
        FileOutput(shared / "y.npz", resume=True)


def test_an_npz_is_what_numpy_would_write(songs: Path, embedder: Embedder) -> None:
    out = songs / "x.npz"
    embed_batch(embedder, ["a.wav", "b.wav"], out)
    with np.load(out) as arrays:
        np.savez(songs / "y.npz", **{name: arrays[name] for name in arrays.files})
    assert out.read_bytes() == (songs / "y.npz").read_bytes()
