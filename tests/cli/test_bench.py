"""`mertd bench` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_process import mertd
from mertd.bench.suite import Plan
from mertd.cli.bench_report import measure
from mertd.errors import UsageError

TINY = Plan(["backends"], "random:0?size=tiny", seconds=1.0, runs=2, quick=True)


@pytest.mark.slow
def test_json_on_standard_output_is_all_there_is() -> None:
    done = mertd("bench", "--quick", "--only", "backends", "--only", "fanout", "--json", "-")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert list(found) == ["machine", "backends", "fanout"]
    assert found["machine"]["quick"]
    assert [row["subscribers"] for row in found["fanout"]] == [1, 10]


@pytest.mark.slow
def test_the_same_figures_as_a_table_as_json_and_as_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measure(TINY, str(tmp_path / "x.json"), tmp_path / "x.png")
    shown = capsys.readouterr().out
    rows = json.loads((tmp_path / "x.json").read_text())["backends"]["rows"]
    assert len(rows) >= 2
    for row in rows:
        assert f"{row['ms_per_window']['median']:.2f}" in shown
        assert row["cosine"] > 0.999
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_section_is_refused_by_name() -> None:
    done = mertd("bench", "--only", "backend")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        "--only 'backend': unknown section; choose one of backends, daemon, fanout, startup, streams, changes, energy, files, "
        "memory, rooms; did you mean 'backends'?" in done.stderr
    )


def test_what_cannot_be_written_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere" / "x"
    with pytest.raises(UsageError, match=r"--json .*/x: directory .*/nowhere does not exist"):
        measure(TINY, str(nowhere), None)
    with pytest.raises(UsageError, match=r"--plot .*/x: directory .*/nowhere does not exist"):
        measure(TINY, None, nowhere)


def test_a_picture_without_matplotlib_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"matplotlib is not installed; pip install 'mertd\[bench\]'"):
        measure(TINY, None, tmp_path / "x.png")
