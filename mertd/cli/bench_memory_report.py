"""The section `memory` of `mertd bench` as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from mertd.text import printable

if TYPE_CHECKING:
    from rich.console import Console


def show_memory(console: Console, found: dict[str, Any]) -> None:
    """Print what the section has found."""
    _search(console, found["search"])
    _stores(console, found["stores"])
    _week(console, found["week"], found["publishing"])


def _search(console: Console, found: dict[str, Any]) -> None:
    title = f"Searching {found['vectors']:,} vectors in {found['files']} files, {found['in_open_file']:,} in the open one"
    table = _table(title, "", "")
    ask = found["ask_ms"]
    table.add_row("a question: median, p99, of", f"{ask['p50']:.1f} ms, {ask['p99']:.1f} ms, {ask['count']}")
    table.add_row("recall of 10 moments", f"{found['recall']:.3f}")
    table.add_row("first answer, from the start of the process", f"{found['first_s']:.2f} s")
    table.add_row("memory of the asking process, without mapped files", f"{found['own_mb']:.0f} MB")
    table.add_row("files, relative to float16 numbers", f"{found['file_bytes'] / found['raw_bytes']:.3f}")
    table.add_row("indexes", f"{found['index_bytes'] / 1e6:.0f} MB, built in {found['built_s']:.0f} s")
    console.print(table)


def _stores(console: Console, found: dict[str, Any]) -> None:
    columns = ("", "bulk/s", "single/s", "query ms", "recall", "of raw", "index MB", "bytes a single", "files more")
    table = _table(f"{found['vectors']:,} vectors in bulk, then {found['singles']:,} one at a time", *columns)
    for row in found["rows"]:
        table.add_row(
            row["name"],
            f"{row['bulk_per_s']:,.0f}",
            f"{row['single_per_s']:,.0f}",
            f"{row['ask_ms']['median']:.1f}",
            f"{row['recall']:.2f}" if "recall" in row else "see above",
            f"{row['of_raw']:.2f}",
            f"{row['index_bytes'] / 1e6:.1f}",
            f"{row['single_bytes']:,.0f}",
            str(row["single_files"]),
        )
    console.print(table)
    for note in found["notes"]:
        console.print(printable(note))


def _week(console: Console, week: dict[str, Any], publishing: dict[str, Any]) -> None:
    title = (
        f"A week at 50 vectors a second, as {week['vectors']:,} vectors ({week['share_of_week']:.2%}) in {week['files']} files"
    )
    table = _table(title, "", "")
    for name, key in (
        ("memory of the process that remembers", "remembering_mb"),
        ("of the one that publishes", "publishing_mb"),
    ):
        table.add_row(f"{name}: at half time, at the end", f"{week[key]['half']:.0f} MB, {week[key]['end']:.0f} MB")
    table.add_row("disk, relative to what was predicted", f"{week['bytes'] / week['predicted_bytes']:.3f}")
    table.add_row("stored a second", f"{week['per_s']:,.0f}")
    ends = f"{publishing['without']['p99']:.2f} ms, {publishing['with']['p99']:.2f} ms"
    table.add_row("live publishing, p99 without and with memory", f"{ends} (ratio {publishing['p99_ratio']:.2f})")
    console.print(table)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table
