"""Measuring itself: whose turn it is, what the middle is, what a process has used."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys

import pytest

from mertd.bench.measure import Spread, cpu_s, parse_ps_time, percentiles, resident_mb, take_turns


def test_contenders_take_turns_and_each_round_begins_with_another() -> None:
    called: list[str] = []
    contenders = {name: lambda name=name: called.append(name) for name in "abc"}
    times = take_turns(contenders, 4)
    assert "".join(called) == "abc" + "abc" + "bca" + "cab" + "abc", "one round to warm up, four that count"
    assert {name: len(found) for name, found in times.items()} == {"a": 4, "b": 4, "c": 4}
    assert all(took >= 0 for found in times.values() for took in found)


def test_the_spread_is_median_and_quartiles_in_the_unit_asked_for() -> None:
    assert Spread.of([4.0, 1.0, 2.0, 3.0, 5.0], 1e3) == Spread(3000.0, 2000.0, 4000.0, 5)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0, 1)


def test_percentiles() -> None:
    assert percentiles([float(i) for i in range(101)]) == {"p50": 50.0, "p99": 99.0, "max": 100.0, "count": 101}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0:00.07", 0.07), (" 1:02.50\n", 62.5), ("00:01:40", 100.0), ("2-03:00:01", 2 * 86_400 + 3 * 3_600 + 1.0)],
)
def test_the_times_of_ps(text: str, seconds: float) -> None:
    assert parse_ps_time(text) == pytest.approx(seconds)


def test_what_this_process_has_used() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    found = cpu_s(os.getpid())
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert before.ru_utime + before.ru_stime - 0.05 <= found <= after.ru_utime + after.ru_stime + 0.05
    peak = after.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    assert 5 < resident_mb(os.getpid()) <= peak * 1.05


@pytest.mark.skipif(shutil.which("ps") is None, reason="needs ps")
def test_ps_tells_the_same_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    held_mb, used_s = resident_mb(os.getpid()), cpu_s(os.getpid())
    monkeypatch.setattr("mertd.bench.measure._proc", lambda *_: None)
    assert resident_mb(os.getpid()) == pytest.approx(held_mb, rel=0.2)
    assert used_s - 1 <= cpu_s(os.getpid()) <= used_s + 10  # it has whole seconds here
    test_a_process_that_is_gone_has_no_figures()


def test_a_process_that_is_gone_has_no_figures() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    for ask in (cpu_s, resident_mb):
        with pytest.raises(ProcessLookupError, match=str(gone.pid)):
            ask(gone.pid)
