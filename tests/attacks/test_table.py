"""Bars that are missed are reported, and a page quotes the figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from attacks import table
from attacks.catalogue import trials
from attacks.trial import Row

GOOD = Row("flood", True, 49.0, 0.4, 1.9, 4.9, 1.9)


def test_figures_within_the_bars_miss_none() -> None:
    assert GOOD.misses() == []


@pytest.mark.parametrize(
    ("row", "miss"),
    [
        (Row("flood", lives=False), "it died"),
        (Row("flood", growth_mb=50.1), "memory grew by 50 MB"),
        (Row("flood", answer_s=0.51), "`status` was answered after 0.51 s"),
        (Row("flood", pause_s=2.01), "the beat paused for 2.01 s"),
        (Row("flood", end_s=5.01), "SIGTERM took 5.01 s"),
        (Row("flood", cut_off_s=2.01), "the revoked key was served for 2.01 s"),
        (Row("flood", wrong=["other"]), "other"),
    ],
)
def test_a_bar_that_is_missed_is_reported(row: Row, miss: str) -> None:
    assert row.misses() == [miss]


def test_a_page_is_filled_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table: attacks -->\nold\n<!-- end -->\nafter\n")
    table.fill(page, [GOOD, Row("client", growth_mb=1.0)])
    lines = page.read_text().splitlines()
    assert lines[:2] == ["before", "<!-- table: attacks -->"]
    assert "| flood | yes | 49 | 0.40 | 1.90 | 4.90 | 1.90 |" in lines
    assert "| client | yes | 1 |  |  |  |  |" in lines
    assert lines[-2:] == ["<!-- end -->", "after"]
    assert "old" not in lines


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="0 marks"):
        table.fill(page, [GOOD])


def test_attacks_are_chosen_by_name() -> None:
    assert {*trials(["PINGs"], everything=False)} == {
        "PINGs behind requests, then reset",
        "PINGs behind subscriptions, then reset",
        "client: PINGs, then reset",
    }
    assert trials([], everything=False).keys() < trials([], everything=True).keys()
