"""Text for a terminal of a certain width and encoding: cells that fit, level lines, strips.

Rules of this file: pure functions, no I/O. Widths are columns, of which some characters take two.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from mertd.cli.standard_streams import UNENCODABLE
from mertd.text import printable

BLOCKS = " ▁▂▃▄▅▆▇█"
"""Characters of growing height."""

PLAIN_BLOCKS = " .:-=+*#@"
"""The same where the encoding lacks them."""

GAP = "  "
"""What stands between two cells."""


@dataclass(frozen=True)
class Cell:
    """A part of a line. Cells of higher rank are left out first. `fill`: makes the text for the columns that are left."""

    text: str = ""
    rank: int = 0
    width: int = 0  # columns that it has at least
    fill: Callable[[int], str] | None = None


def can_encode(text: str, encoding: str) -> bool:
    """Return whether an encoding has the characters of a text."""
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def blocks_for(encoding: str) -> str:
    """Return nine characters of growing height that an encoding has."""
    return BLOCKS if can_encode(BLOCKS, encoding) else PLAIN_BLOCKS


def shown_line(text: str, width: int, encoding: str) -> str:
    """Return a line that gives the terminal no commands, can be encoded, and takes at most `width` columns."""
    safe = printable(text)
    if not can_encode(safe, encoding):
        codecs.lookup_error(UNENCODABLE)
        safe = safe.encode(encoding, UNENCODABLE).decode(encoding)
    return safe if cell_len(safe) <= width else set_cell_size(safe, width)


def join_cells(cells: Sequence[Cell], width: int) -> str:
    """Return as many cells in a line as fit; the last one that is left is cut if it must be. At most one has a `fill`."""
    kept = list(cells)
    while len(kept) > 1 and _needed(kept) > width:
        kept.remove(max(kept, key=lambda cell: cell.rank))
    left = max(0, width - _needed(kept))
    texts = [
        cell.fill(cell.width + left) if cell.fill is not None else set_cell_size(cell.text, _columns(cell)) for cell in kept
    ]
    line = GAP.join(texts).rstrip()
    return line if cell_len(line) <= width else set_cell_size(line, width)


def spark(values: Sequence[float | None], width: int, blocks: str, full: float) -> str:
    """Return the last `width` values as characters of growing height. `full`: the least value of the highest; None: a gap."""
    shown = values[-width:] if width > 0 else ()
    most = max([full, *(value for value in shown if value is not None and math.isfinite(value))])
    return "".join(_block(value, most, blocks) for value in shown).rjust(max(width, 0))


def strip(points: Iterable[tuple[int, float]], since_ns: int, until_ns: int, width: int, blocks: str, full: float) -> str:
    """Return a line on which values stand where their times are: in each column the largest. Nothing known: a blank."""
    columns: list[float | None] = [None] * width
    for time_ns, value in points:
        column = column_of(time_ns, since_ns, until_ns, width)
        if column is not None and math.isfinite(value):
            columns[column] = max(value, columns[column] or 0.0)
    return spark(columns, width, blocks, full)


def column_of(time_ns: int, since_ns: int, until_ns: int, width: int) -> int | None:
    """Return the column in which a time lies; None if it lies outside."""
    if not since_ns <= time_ns <= until_ns or width <= 0:
        return None
    return min(width - 1, (time_ns - since_ns) * width // max(1, until_ns - since_ns))


def marked(times: Iterable[tuple[int, str]], since_ns: int, until_ns: int, width: int) -> str:
    """Return a line with one character at each time; of several in a column the last one."""
    columns = [" "] * width
    for time_ns, character in times:
        column = column_of(time_ns, since_ns, until_ns, width)
        if column is not None:
            columns[column] = character
    return "".join(columns).rstrip()


def _block(value: float | None, most: float, blocks: str) -> str:
    if value is None or not math.isfinite(value) or most <= 0:
        return blocks[0]
    return blocks[1 + min(len(blocks) - 2, int(max(0.0, value) / most * (len(blocks) - 1)))]


def _columns(cell: Cell) -> int:
    return max(cell.width, cell_len(cell.text))


def _needed(cells: Sequence[Cell]) -> int:
    return sum(map(_columns, cells)) + len(GAP) * (len(cells) - 1)
