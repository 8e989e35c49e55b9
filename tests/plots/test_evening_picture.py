"""Pictures as files: of an evening, and of recordings."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_process import mertd
from daemon_process import SHORT, TINY, music, write_wav
from memory.changes.test_live_changes import SECTIONS, message, run_of
from memory.stored import BOOTS, small
from mertd.cli.app import run
from mertd.memory.store import Store

ODD_NAME = "$x_{\\frac$ 音楽 \x1b[2J\n"


def size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


@pytest.mark.slow
def test_an_evening_of_several_streams(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names that are formulas to the library, or not in its font, are drawn as text."""
    with Store(tmp_path / "memory") as store:
        store.append([message(one, ODD_NAME) for one in run_of(BOOTS[0], SECTIONS)])
        store.append([small(seq, "short") for seq in range(2)])
    words = ["changes", "--memory", str(tmp_path / "memory"), "--to", "now"]
    assert run(words) == 0
    lines = capsys.readouterr().out
    assert run([*words, "--plot", str(tmp_path / "evening.png")]) == 0
    both = capsys.readouterr()
    assert (both.out, both.err) == (lines, "")
    assert run([*words, "--stream", "short", "--plot", str(tmp_path / "short.png")]) == 0
    (width, high), (_, low) = size(tmp_path / "evening.png"), size(tmp_path / "short.png")
    assert high == 2 * low
    assert width > 1_000
    assert run([*words, "--plot", str(tmp_path / "evening.svg")]) == 0
    assert b"<svg" in (tmp_path / "evening.svg").read_bytes()


@pytest.mark.slow
def test_recordings(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        write_wav(tmp_path / name, music(8))
    words = ["embed", tmp_path / "a.wav", tmp_path / "b.wav", *TINY, *SHORT, "--backend", "numpy"]
    done = mertd(*words, "--out", tmp_path / "x.npz", "--plot", tmp_path / "x.png")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert size(tmp_path / "x.png")[1] > 1_500, "one below the other"
    piped = mertd(*words, "--plot", tmp_path / "y.png")
    assert piped.returncode == 0
    assert len(piped.stdout.splitlines()) > 10, "NDJSON goes on as before"
    assert size(tmp_path / "y.png") == size(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("no/x.png", "directory {here}/no does not exist; create it first"),
        ("x.wrong", "--plot {here}/x.wrong: unknown kind of picture; use .png, .svg or .pdf"),
    ],
)
def test_mistakes_are_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, complaint: str
) -> None:
    with Store(tmp_path / "memory") as store:
        store.append([small(0)])
    write_wav(tmp_path / "a.wav", music(2))
    for words in (["changes", "--memory", str(tmp_path / "memory")], ["embed", str(tmp_path / "a.wav"), *map(str, TINY)]):
        assert run([*words, "--plot", str(tmp_path / name)]) == 2
        shown = capsys.readouterr()
        assert complaint.format(here=tmp_path) in shown.err
        assert not shown.out


def test_the_extra_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert run(["changes", "--memory", str(tmp_path), "--plot", str(tmp_path / "x.png")]) == 2
    assert capsys.readouterr().err == "mertd: --plot: matplotlib is not installed; pip install 'mertd[bench]' installs it\n"


def test_more_inputs_than_a_picture_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(9):
        write_wav(tmp_path / f"{number}.wav", music(1))
    assert (
        run(["embed", str(tmp_path), *map(str, TINY), "--out", str(tmp_path / "x.npz"), "--plot", str(tmp_path / "x.png")]) == 2
    )
    assert "--plot draws 8 inputs at most, and these are 9; give fewer" in capsys.readouterr().err
