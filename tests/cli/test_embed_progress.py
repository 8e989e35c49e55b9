"""What `mertd embed` tells of how far it is."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from mertd.cli.embed_progress import EmbedProgress, _span
from mertd.offline.inputs import find_inputs


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[EmbedProgress, Clock, Progress]:
    monkeypatch.chdir(tmp_path)
    for name, size in (("a.wav", 100), ("b.wav", 300), ("c.wav", 600)):
        Path(name).write_bytes(bytes(size))
    clock = Clock()
    progress = Progress(console=Console(file=io.StringIO()), disable=True)
    return EmbedProgress(progress, find_inputs(["a.wav", "b.wav", "c.wav"], lambda _: None), clock), clock, progress


def test_files_done_hours_a_minute_and_time_left(
    shown: tuple[EmbedProgress, Clock, Progress], capsys: pytest.CaptureFixture[str]
) -> None:
    told, clock, progress = shown
    a, b, c = find_inputs(["a.wav", "b.wav", "c.wav"], lambda _: None)
    told.began(a)
    told.ended(a, "")  # done by an earlier run: it says nothing of how fast this one is
    clock.now += 20
    told.progress(b, 1_800.0)
    told.progress(c, 900.0)
    told.progress(b, 3_600.0)
    assert capsys.readouterr().err == ""
    assert progress.tasks[0].description == "1 of 3 inputs, 3.75 hours of audio a minute"
    told.ended(b, "")
    clock.now += 10
    told.progress(c, 3_600.0)
    assert capsys.readouterr().err == "2 of 3 inputs, 4 hours of audio a minute, 15 s left\n"
    assert progress.tasks[0].completed == pytest.approx((300 + 300) / 900), "b gave 300 bytes an hour, so c is half done"
    clock.now += 59
    told.progress(c, 4_000.0)
    assert capsys.readouterr().err == ""
    clock.now += 1
    told.ended(c, "c.wav: cut")
    assert capsys.readouterr().err.splitlines() == ["mertd: c.wav: cut", "3 of 3 inputs, 1.41 hours of audio a minute"]
    assert progress.tasks[0].completed == 1


@pytest.mark.parametrize(("seconds", "text"), [(3.2, "3 s"), (99.4, "99 s"), (240, "4 min"), (9_000, "2.5 h")])
def test_spans(seconds: float, text: str) -> None:
    assert _span(seconds) == text
