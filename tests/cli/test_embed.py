"""`mertd embed`: files to .npz and NDJSON."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from command_process import complaints, mertd
from daemon_process import SHORT, TINY, music, write_wav

OPTIONS = [*TINY, *SHORT]


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """A folder with two songs, one of them of another rate and with a pause, and a text that is no song."""
    write_wav(tmp_path / "one.wav", music(2))
    write_wav(tmp_path / "two.flac", np.concatenate([music(2, 48_000, 2, seed=1), np.zeros((96_000, 2), np.int16)]), 48_000)
    (tmp_path / "text.wav").write_text("no song")
    return tmp_path


def test_npz_and_ndjson_say_the_same(songs: Path) -> None:
    as_npz = mertd("embed", "one.wav", "two.flac", "--out", "all.npz", *OPTIONS, folder=songs)
    as_ndjson = mertd("embed", "one.wav", "two.flac", "--out", "all.ndjson", *OPTIONS, folder=songs)
    assert as_npz.returncode == as_ndjson.returncode == 0
    assert as_npz.stdout == as_ndjson.stdout == ""
    assert complaints(as_npz.stderr) == ["mertd: two.flac: 3 silent windows below -70 dBFS are left out"]
    lines = [json.loads(line) for line in (songs / "all.ndjson").read_text().splitlines()]
    with np.load(songs / "all.npz") as arrays:
        assert arrays["source"].tolist() == [m["file"] for m in lines] == ["one.wav"] * 3 + ["two.flac"] * 4
        assert arrays["start"].tolist() == [m["window"]["start"] for m in lines]
        assert (arrays["end"] - arrays["start"] == 24_000).all()
        assert arrays["vector"].shape == (7, 2, 64)
        assert arrays["vector"].dtype == np.float32
        np.testing.assert_array_equal(arrays["vector"], np.array([m["vector"]["data"] for m in lines], np.float32))
        np.testing.assert_allclose(arrays["rms_dbfs"], [m["audio"]["rms_dbfs"] for m in lines])
        assert {str(arrays["space"])} == {m["model"]["space"] for m in lines}
        assert not arrays["trained"]
        assert arrays["layers"].tolist() == [1, 2]
    assert [m["seq"] for m in lines] == [0, 1, 2, 0, 1, 2, 3]
    assert sorted(path.name for path in songs.iterdir()) == ["all.ndjson", "all.npz", "one.wav", "text.wav", "two.flac"]


def test_a_file_that_cannot_be_read_does_not_stop_the_others(songs: Path) -> None:
    files = ["one.wav", "text.wav", "absent.wav", "two.flac"]
    done = mertd("embed", *files, *OPTIONS, folder=songs)
    assert done.returncode == 3
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [m["file"] for m in lines] == ["one.wav"] * 3 + ["two.flac"] * 4
    text, absent, silent = complaints(done.stderr)
    assert "silent" in silent
    assert "text.wav cannot be read as audio" in text
    assert "no file at absent.wav" in absent


def test_a_file_shorter_than_a_window(songs: Path) -> None:
    done = mertd("embed", "one.wav", *TINY, "--window", "3", folder=songs)
    assert (done.returncode, done.stdout) == (3, "")
    assert complaints(done.stderr) == ["mertd: file:one.wav is shorter than a window of 3 s; a shorter --window would fit"]


@pytest.mark.parametrize("out", ["vectors.csv", "nowhere/x.npz"])
def test_an_output_that_cannot_be(songs: Path, out: str) -> None:
    done = mertd("embed", "one.wav", "--out", out, *OPTIONS, folder=songs)
    assert (done.returncode, done.stdout) == (2, "")
    (complaint,) = complaints(done.stderr)
    assert complaint.startswith(f"mertd: --out {out}: ")


def test_a_reader_that_has_had_enough(songs: Path) -> None:
    """`mertd embed … | head -1` ends without a word: the pipe is closed before the first line."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = mertd("embed", "one.wav", *OPTIONS, folder=songs, first=lambda: os.dup2(write, 1))
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_missing_of_a_file_is_said_three_times(songs: Path) -> None:
    """As a complaint with exit code 3, and in both outputs, beside the windows that are there."""
    (songs / "cut.wav").write_bytes((songs / "one.wav").read_bytes()[:-40_000])
    lines = mertd("embed", "cut.wav", *OPTIONS, folder=songs)
    assert lines.returncode == 3
    (complaint,) = complaints(lines.stderr)
    assert complaint.startswith("mertd: cut.wav: at least ")
    assert "the file is cut" in complaint
    *windows, last = map(json.loads, lines.stdout.splitlines())
    assert windows
    assert last["file"] == "cut.wav"
    assert last["missing_s"] > 0
    assert "the file is cut" in last["reason"]
    arrays = mertd("embed", "cut.wav", "one.wav", "--out", "x.npz", *OPTIONS, folder=songs)
    assert arrays.returncode == 3
    with np.load(songs / "x.npz") as written:
        assert list(written["missing_source"]) == ["cut.wav"]
        assert written["missing_s"] == pytest.approx([last["missing_s"]])
        assert set(written["source"]) == {"cut.wav", "one.wav"}
