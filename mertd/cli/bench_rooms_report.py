"""The section `rooms` of `mertd bench` as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from mertd.text import printable

if TYPE_CHECKING:
    from rich.console import Console


def show_rooms(console: Console, found: dict[str, Any]) -> None:
    """Print what the section has found: a row for each kind of disturbance."""
    untrained = "" if found["trained"] else ", UNTRAINED"
    title = (
        f"The same music on two streams: 2 programmes of {found['seconds']} s, windows of {found['window_s']:g} s every "
        f"{found['hop_s']:g} s, layer {found['layer']}{untrained}"
    )
    table = Table(title=title, title_justify="left", title_style="bold")
    columns = ("the second stream", "found", "of them certain", "median error, s", "worst, s", "bounds, s", "certain and wrong")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in found["rows"]:
        rows.setdefault(row["name"], []).append(row)
    for name, group in rows.items():
        hits = [row for row in group if row["found_s"] is not None]
        sure = [row for row in hits if row["certain"]]
        errors = sorted(abs(row["found_s"] - row["lag_s"]) for row in sure)
        bounds = [row["bound_s"] for row in sure]
        table.add_row(
            printable(name),
            f"{len(hits)} of {len(group)}",
            str(len(sure)),
            f"{errors[len(errors) // 2]:.2f}" if errors else "",
            f"{errors[-1]:.2f}" if errors else "",
            f"{min(bounds):.1f} - {max(bounds):.1f}" if bounds else "",
            str(sum(row["wrong"] for row in group)),
        )
    console.print(table)
    unrelated = found["unrelated"]
    console.print(f"Streams with other music: {unrelated['false_alarms']} finds in {unrelated['pairs']} pairs")
