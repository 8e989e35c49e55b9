"""Lines that fit a terminal, whatever is in them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from mertd.cli import standard_streams
from mertd.cli.evening_strip import MAX_WIDTH, MIN_WIDTH, Evening
from mertd.cli.terminal_text import (
    BLOCKS,
    PLAIN_BLOCKS,
    Cell,
    blocks_for,
    column_of,
    join_cells,
    marked,
    shown_line,
    spark,
    strip,
)

MINUTE_NS = 60_000_000_000
HOUR_NS = 60 * MINUTE_NS
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)

standard_streams.codecs.register_error(standard_streams.UNENCODABLE, standard_streams._substitute)


@given(TEXTS, st.integers(1, 60), st.sampled_from(["utf-8", "ascii", "latin-1", "cp437"]))
def test_a_shown_line_fits_and_can_be_encoded(text: str, width: int, encoding: str) -> None:
    line = shown_line(text, width, encoding)
    assert cell_len(line) <= width
    assert line.encode(encoding)[:0] == b""
    assert not {"\x1b", "\n", "\r", "\x9b", "\u202e"} & set(line)


def test_substitutes_are_not_cut_in_vain() -> None:
    assert shown_line("a – b", 5, "ascii") == "a - b"
    assert shown_line("ab…", 5, "ascii") == "ab..."
    assert shown_line("音楽は", 4, "utf-8") == "音楽"
    assert shown_line("音楽は", 5, "utf-8") == "音楽 ", "no half of a character"


@given(st.lists(st.tuples(TEXTS, st.integers(0, 5), st.integers(0, 12)), min_size=1, max_size=6), st.integers(1, 80))
def test_cells_never_take_more_than_the_width(cells: list[tuple[str, int, int]], width: int) -> None:
    made = [Cell(text, rank, columns) for text, rank, columns in cells]
    assert cell_len(join_cells(made, width)) <= width
    assert cell_len(join_cells([*made, Cell("", 0, 3, lambda columns: "x" * columns)], width)) <= width


def test_the_least_important_cells_go_first() -> None:
    cells = [Cell("name"), Cell("level", 1), Cell("words", 3), Cell("", 2, 3, lambda columns: "#" * columns)]
    assert join_cells(cells, 30) == "name  level  words  ##########"
    assert join_cells(cells, 23) == "name  level  words  ###"
    assert join_cells(cells, 22) == "name  level  #########"
    assert join_cells(cells, 15) == "name  level"
    assert join_cells(cells, 3) == "nam"


def test_blocks() -> None:
    assert (blocks_for("utf-8"), blocks_for("ascii"), blocks_for("latin-1")) == (BLOCKS, PLAIN_BLOCKS, PLAIN_BLOCKS)
    assert blocks_for("no such encoding") == PLAIN_BLOCKS
    assert spark([0.0, 0.5, 1.0, None, math.nan, math.inf], 6, BLOCKS, 1.0) == "▁▅█   "
    assert spark([0.1], 3, PLAIN_BLOCKS, 1.0) == "  ."
    assert spark([3.0, 1.0], 1, BLOCKS, 1.0) == "█", "the newest; the scale grows with what is shown"
    assert spark([1.0, 3.0], 2, BLOCKS, 1.0) == "▃█"
    assert spark([], 0, BLOCKS, 1.0) == ""


@given(st.lists(st.floats() | st.none(), max_size=20), st.integers(0, 20))
def test_a_spark_line_is_as_wide_as_asked_for(values: list[float | None], width: int) -> None:
    assert len(spark(values, width, BLOCKS, 0.5)) == width


def test_a_strip_shows_when() -> None:
    points = [(0, 0.1), (10, 1.0), (11, 0.2), (99, 0.5), (100, 1.0), (200, 1.0)]
    assert strip(points, 0, 100, 10, BLOCKS, 1.0) == "▁█       █"
    assert marked([(0, "|"), (50, "<"), (55, "|"), (300, "|")], 0, 100, 10) == "|    |"
    assert [column_of(time, 5, 5, 10) for time in (4, 5, 6)] == [None, 0, None]


def test_an_evening(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "mertd.cli.evening_strip.moment", lambda ns: f"2026-11-{25 + ns // (24 * HOUR_NS)} {ns // HOUR_NS % 24:02}:00:00"
    )
    points = [(20 * HOUR_NS + minute * MINUTE_NS, 1.0 if minute == 60 else 0.0) for minute in range(0, 121, 5)]
    evening = Evening(0.5, points, [(21 * HOUR_NS, "|")])
    values, marks, times = evening.lines(20 * HOUR_NS, 22 * HOUR_NS, 20, "utf-8")
    assert times == "20:00          22:00"
    assert marks == "          |"
    assert values[10] == "█"
    assert set(values[:10] + values[11:]) <= {"▁", " "}
    assert evening.lines(20 * HOUR_NS, 26 * HOUR_NS, 40, "ascii")[-1] == "11-25 20:00                  11-26 02:00"
    assert evening.lines(20 * HOUR_NS, 26 * HOUR_NS, MIN_WIDTH - 1, "utf-8") == [], "no room"
    assert evening.lines(20 * HOUR_NS, 20 * HOUR_NS, 40, "utf-8") == []
    assert len(evening.lines(20 * HOUR_NS, 22 * HOUR_NS, 10_000, "utf-8")[0]) == MAX_WIDTH
