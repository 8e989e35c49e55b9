"""Whether a memory is whole: the files sound, every row as it was written, every number there once or in a hole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mertd.errors import StoreError
from mertd.memory.memory_folder import DAMAGED_SUFFIX, existing, open_if_there, segments
from mertd.memory.rows import EMBEDDING_COLUMNS, EVENT_COLUMNS, Source, checksum
from mertd.memory.segment import KIND_TABLES, Segment, explained

MAX_FAULTS = 100
"""Faults of one file that are listed."""

Range = tuple[int, int]
"""Numbers first <= `seq` < end."""


@dataclass
class Report:
    """What a check has found. `counts`: messages by kind. `faults`: a line each; none if the memory is whole."""

    files: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KIND_TABLES, 0))
    missing: int = 0
    faults: list[str] = field(default_factory=list)


def verify(folder: Path) -> Report:
    """Check all files of a memory. Raises `StoreError` if there is none; what is wrong with it is in the report."""
    report = Report()
    covered: dict[tuple[bytes, str, str, str], list[Range]] = defaultdict(list)
    existing(folder)
    for path in segments(folder):
        try:
            segment = open_if_there(path)
            if segment is None:
                continue
            with segment:
                report.files += 1
                _check_file(segment, report)
                for source, kind, found in _ranges(segment):
                    covered[source.boot, source.daemon, source.stream, kind].append(found)
        except StoreError as error:
            report.faults.append(str(error))
    for damaged in sorted(folder.glob(f"*{DAMAGED_SUFFIX}")):
        report.faults.append(f"{damaged.name} could not be read and was set aside; delete it when you have no use for it")
    for (_, daemon, stream, kind), ranges in covered.items():
        report.faults += [f"{kind}/{stream} of {daemon}: {fault}" for fault in _faults(ranges)]
    return report


def _check_file(segment: Segment, report: Report) -> None:
    name = segment.path.name
    with explained(segment.path):
        for (line,) in segment.db.execute(f"PRAGMA integrity_check({MAX_FAULTS})"):
            if line != "ok":
                report.faults.append(f"{name}: {line}")
        for kind, columns in (("embedding", EMBEDDING_COLUMNS), ("event", EVENT_COLUMNS)):
            changed = 0
            for *row, expected in segment.db.execute(f"SELECT {columns}, checksum FROM {KIND_TABLES[kind]}"):
                report.counts[kind] += 1
                changed += checksum(row) != expected
            if changed:
                report.faults.append(f"{name}: {changed} rows of kind {kind} differ from what was written (checksum)")
        # Added up here: SQLite's sum() fails beyond 64 bits.
        report.missing += sum(end - first for first, end in segment.rows('SELECT first, "end" FROM holes WHERE "end" NOT NULL'))


def _ranges(segment: Segment) -> Iterator[tuple[Source, str, Range]]:
    """Yield the runs of numbers that are in a file, or in one of its holes."""
    sources = segment.sources()
    with explained(segment.path):
        for kind, table in KIND_TABLES.items():
            # Rows whose numbers follow on each other differ from their place by the same amount.
            rows = segment.db.execute(
                "SELECT source, min(seq), max(seq) FROM"
                f" (SELECT source, seq, seq - row_number() OVER (PARTITION BY source ORDER BY seq) AS run FROM {table})"
                " GROUP BY source, run"
            )
            for source, first, last in rows:
                yield sources[source], kind, (first, last + 1)
        for source, kind, first, end in segment.db.execute(
            'SELECT source, kind, first, "end" FROM holes WHERE "end" IS NOT NULL'
        ):
            yield sources[source], kind, (first, end)


def _faults(found: list[Range]) -> Iterator[str]:
    """Say which numbers are there twice, or neither there nor in a hole. What is before the first was deleted with its file."""
    found.sort()
    expected = found[0][0]
    for first, end in found:
        if first > expected:
            yield f"numbers {expected} to {first - 1} are missing, and no hole says so"
        elif first < expected:
            yield f"numbers {first} to {min(end, expected) - 1} are there twice"
        expected = max(expected, end)
