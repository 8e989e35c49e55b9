"""The figures as text and as a Markdown table."""

from __future__ import annotations

import re
from pathlib import Path

from attacks.trial import Row

COLUMNS = ["attack", "lives", "growth MB", "status s", "pause s", "SIGTERM s", "cut off s", "stalled s", "holes"]
HEAD = [
    "attack",
    "survived",
    "memory growth, MB",
    "worst `status`, s",
    "longest pause of the beat, s",
    "SIGTERM to exit, s",
    "revoked to cut off, s",
]
WIDTH = 58


def number(value: float | None, digits: int = 2) -> str:
    """Return a figure, or nothing if it was not measured."""
    return "" if value is None else f"{value:.{digits}f}"


def cells(row: Row) -> list[str]:
    """Return the columns of the Markdown table."""
    seconds = [number(value) for value in (row.answer_s, row.pause_s, row.end_s, row.cut_off_s)]
    return [row.name, "yes" if row.lives else "no", number(row.growth_mb, 0), *seconds]


def line(row: Row) -> str:
    """Return a row as text."""
    figures = [*cells(row)[1:], number(row.stalled_s), str(row.holes)]
    return row.name.ljust(WIDTH) + "".join(figure.rjust(11) for figure in figures)


def text(rows: list[Row]) -> str:
    """Return the whole table as text."""
    head = COLUMNS[0].ljust(WIDTH) + "".join(column.rjust(11) for column in COLUMNS[1:])
    return "\n".join([head, *(line(row) for row in rows)])


def markdown(rows: list[Row]) -> str:
    """Return the table as a page quotes it."""
    lines = [HEAD, [*["---"] * len(HEAD)], *(cells(row) for row in rows)]
    return "\n".join("| " + " | ".join(one) + " |" for one in lines)


def fill(page: Path, rows: list[Row]) -> None:
    """Write the table between the marks of a page. Raises `ValueError` if it has none."""
    pattern = re.compile(r"(<!-- table: attacks\b[^\n]*-->\n).*?(<!-- end -->)", re.DOTALL)
    filled, count = pattern.subn(lambda match: f"{match[1]}\n{markdown(rows)}\n\n{match[2]}", page.read_text(encoding="utf-8"))
    if count != 1:
        raise ValueError(f"{page}: {count} marks for the table of attacks; expected one")
    page.write_text(filled, encoding="utf-8")
