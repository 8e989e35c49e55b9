"""`mertd embed`: files to .npz and NDJSON."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from command_process import PATIENCE_S, complaints, mertd, wait_until
from daemon_process import SHORT, TINY, music, write_wav

OPTIONS = [*TINY, *SHORT]


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """A folder with two songs, one of them of another rate and with a pause, and a text that is no song."""
    write_wav(tmp_path / "one.wav", music(2))
    write_wav(tmp_path / "two.flac", np.concatenate([music(2, 48_000, 2, seed=1), np.zeros((96_000, 2), np.int16)]), 48_000)
    (tmp_path / "text.wav").write_text("no song")
    return tmp_path


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_reader_that_has_had_enough(songs: Path) -> None:
    """`mertd embed … | head -1` ends without a word: the pipe is closed before the first line."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = mertd("embed", "one.wav", *OPTIONS, folder=songs, first=lambda: os.dup2(write, 1))
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_folder_a_pipe_and_an_address_in_one_batch(songs: Path) -> None:
    (songs / "album").mkdir()
    (songs / "album" / "one.wav").write_bytes((songs / "one.wav").read_bytes())
    (songs / "album" / "cover.jpg").write_bytes(b"a picture")
    words = ["album", "pipe:-", "synth:tone?seconds=2", "--out", "x.ndjson"]
    done = mertd("embed", *words, *OPTIONS, folder=songs, stdin=(songs / "two.flac").read_bytes())
    assert done.returncode == 0
    folder, silent = complaints(done.stderr)
    assert folder == "mertd: album: 1 file (1 .jpg) skipped as no audio"
    assert silent == "mertd: pipe:-: 3 silent windows below -70 dBFS are left out"
    names = [json.loads(line)["file"] for line in (songs / "x.ndjson").read_text().splitlines()]
    assert names == ["album/one.wav"] * 3 + ["pipe:-"] * 4 + ["synth:tone?seconds=2"] * 3


def test_raw_pcm_on_standard_input(songs: Path) -> None:
    done = mertd("embed", "pipe:-?rate=24000&channels=1", *OPTIONS, folder=songs, stdin=music(2).tobytes())
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3


@pytest.mark.parametrize("closed", [0, 1])
def test_standard_input_or_output_that_is_closed(songs: Path, closed: int) -> None:
    done = mertd("embed", "pipe:-", *OPTIONS, folder=songs, first=lambda: os.close(closed))
    assert done.returncode == 3
    (complaint,) = complaints(done.stderr)
    assert ("standard input is closed", "standard output is closed")[closed] in complaint


@pytest.mark.parametrize("out", [[], ["--out", "folder.npz"]])
def test_an_output_that_cannot_be_written_is_one_line(songs: Path, out: list[str]) -> None:
    (songs / "folder.npz").mkdir()
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = mertd("embed", "one.wav", *out, *OPTIONS, folder=songs, first=lambda: os.dup2(full, 1))
    finally:
        os.close(full)
    assert done.returncode == 3
    (complaint,) = complaints(done.stderr)
    assert ("is a directory" if out else "standard output cannot be written: No space left") in complaint


@pytest.mark.slow
@pytest.mark.parametrize("out", ["x.npz", "x.ndjson"])
def test_a_disk_that_becomes_full_keeps_what_was_done(songs: Path, out: str) -> None:
    limit = 100_000  # bytes of a file: room for the check and the first input
    write_wav(songs / "long.wav", music(90))
    words = ("embed", "one.wav", "long.wav", "--out", out, *OPTIONS)
    done = mertd(*words, folder=songs, first=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert done.returncode == 3
    cause, kept = complaints(done.stderr)
    assert f"{out}.partial cannot be written on: File too large" in cause
    assert f"what is done is kept in {out}.partial (1 inputs whole); the same command continues" in kept
    assert not (songs / out).exists()
    again = mertd(*words, folder=songs)
    assert again.returncode == 0
    assert complaints(again.stderr) == [f"mertd: {out}: continuing an interrupted run, in which 1 inputs were done"]
    mertd(*words[: -len(OPTIONS)], *OPTIONS, "--out", f"again-{out}", folder=songs)
    assert (songs / out).read_bytes() == (songs / f"again-{out}").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_interrupts_a_batch_of_files(songs: Path, number: signal.Signals, code: int) -> None:
    write_wav(songs / "long.wav", music(120))
    done, stderr = signalled(
        songs, number, "embed", "one.wav", "long.wav", "--out", "x.npz", *TINY, "--window", "1", "--hop", "0.25"
    )
    assert done == code
    (complaint,) = complaints(stderr)
    assert complaint.startswith("mertd: stopped; what is done is kept in x.npz.partial (1 inputs whole)")
    assert not (songs / "x.npz").exists()
    assert mertd("embed", "one.wav", "--out", "x.npz", *TINY, "--window", "1", "--hop", "0.25", folder=songs).returncode == 0


@pytest.mark.slow
def test_a_signal_ends_what_is_live_in_order(songs: Path) -> None:
    code, stderr = signalled(songs, signal.SIGINT, "embed", "one.wav", "synth:tone", "--out", "x.npz", *OPTIONS)
    assert (code, stderr) == (0, "")
    with np.load(songs / "x.npz") as arrays:
        assert {"one.wav", "synth:tone"} == set(arrays["source"])
    assert not (songs / "x.npz.partial").exists()


def signalled(folder: Path, number: signal.Signals, *words: str) -> tuple[int, str]:
    """Run a command, send it a signal once it has begun its second input, and return how it ended."""
    journal = folder / f"{words[words.index('--out') + 1]}.partial"

    def has_begun() -> bool:
        content = journal.read_bytes() if journal.exists() else b""
        second = content.find(b"BEGN", content.find(b"BEGN") + 1)
        first_ended = content.find(b"ENDD")  # files are worked on side by side
        return second > 0 and first_ended > 0 and content.find(b"WNDW", first_ended) > 0

    command = [sys.executable, "-m", "mertd", *words]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(has_begun, PATIENCE_S, lambda: "it has never begun")
            process.send_signal(number)
            out, errors = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert out == ""
    return process.returncode, errors
