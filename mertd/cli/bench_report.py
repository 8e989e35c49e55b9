"""Measure what `mertd bench` was asked for, and show it: as tables, as JSON or as a picture."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from mertd.bench.sections import ON_REQUEST, SECTIONS, Plan
from mertd.bench.suite import run
from mertd.cli.bench_memory_report import show_memory
from mertd.cli.bench_rooms_report import show_rooms
from mertd.cli.output import new_console, say_json, spinner
from mertd.cli.plot_file import check_plot, require_directory
from mertd.errors import UsageError, did_you_mean
from mertd.text import json_text, printable

if TYPE_CHECKING:
    from rich.console import Console


def measure(plan: Plan, json: str | None, plot: Path | None) -> None:
    """Measure what `plan` names and show it. `json`: a file, or `-` for standard output in place of tables."""
    known = SECTIONS + ON_REQUEST
    for section in plan.sections:
        if section not in known:
            hint = did_you_mean(section, known)
            raise UsageError(f"--only {section!r}: unknown section; choose one of {', '.join(known)}{hint}")
    if plot is not None:
        check_plot(plot)
    if json not in (None, "-"):
        require_directory("--json", Path(str(json)))
    with spinner("measuring") as show:
        found = run(plan, show)
    if json == "-":
        say_json(found, indent=1)
    else:
        _tables(found)
    if json not in (None, "-"):
        Path(str(json)).write_text(json_text(found, 1) + "\n", encoding="utf-8")
    if plot is not None:
        from mertd.bench.plot import draw

        draw(found, plot)


def _tables(found: dict[str, Any]) -> None:
    console = new_console(width=None if sys.stdout.isatty() else 120)
    machine = found["machine"]
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    about = f"{machine['processor']}, {machine['cores']} cores{gpu}"
    console.print(printable(f"{about}; {machine['weights']}, windows of {machine['window_s']:g} s"))
    for section, show in (
        ("backends", _backends),
        ("daemon", _daemon),
        ("fanout", _fanout),
        ("startup", _startup),
        ("streams", _streams),
        ("energy", _energy),
        ("files", _files),
        ("changes", _changes),
        ("memory", show_memory),
        ("rooms", show_rooms),
    ):
        if section in found:
            show(console, found[section])


@contextmanager
def _table(console: Console, title: str, *columns: str) -> Iterator[Table]:
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    yield table
    console.print(table)


def _backends(console: Console, found: dict[str, Any]) -> None:
    references = {row["batch"]: row["ms_per_window"]["median"] for row in found["rows"] if is_reference(row)}
    columns = ("", "states", "batch", "ms a window", "quartiles", "x eager", "1 - cosine")
    with _table(console, f"Backends, taking turns; cosine with {found['cosine_with']}", *columns) as table:
        for row in found["rows"]:
            ms, states = row["ms_per_window"], row["states"]
            reference = references.get(row["batch"])
            table.add_row(
                printable(f"{row['name']} {row['precision']}"),
                str(len(states)) if len(states) > 1 else f"layer {states[0]}",
                str(row["batch"]),
                f"{ms['median']:.2f}",
                f"{ms['low']:.2f} - {ms['high']:.2f}",
                f"{reference / ms['median']:.2f}" if reference else "",
                f"{1 - row['cosine']:.1e}",
            )
    for note in found["notes"]:
        console.print(printable(note))


def is_reference(row: dict[str, Any]) -> bool:
    """Return whether the others are compared with this row: PyTorch without further options."""
    return (row["name"], row["precision"]) == ("PyTorch eager", "float32")


def _daemon(console: Console, found: dict[str, Any]) -> None:
    with _table(console, "The daemon without the model, one stream in real time", "", "% of a core", "MB") as table:
        for name, facts in found["processes"].items():
            table.add_row(name, f"{facts['cpu_percent']:.2f}", f"{facts['resident_mb']:.0f}")
    with _table(console, "A message", "", "median", "p99", "max") as table:
        for name, spread in found["wire_us"].items():
            table.add_row(f"{name}, microseconds", f"{spread['median']:.1f}", "", "")
        for name, facts in found["publish_ms"].items():
            table.add_row(f"{name}, ms", *(f"{facts[key]:.2f}" for key in ("p50", "p99", "max")))
    with _table(console, "Where a window's time goes", "", "median ms", "quartiles") as table:
        for name, spread in found["journey_ms"].items():
            table.add_row(name, f"{spread['median']:.2f}", f"{spread['low']:.2f} - {spread['high']:.2f}")


def _fanout(console: Console, found: list[dict[str, Any]]) -> None:
    others = {"pyzmq_per_s": "ratio", "pyzmq_packing_per_s": "packing_ratio"}
    columns = ("subscribers", "mertd, messages/s", "bare pyzmq", "ratio", "quartiles", "pyzmq that packs", "ratio", "quartiles")
    with _table(console, "Fan-out, taking turns; bare pyzmq sends bytes that were made before", *columns) as table:
        for row in found:
            cells = [str(row["subscribers"]), f"{row['mertd_per_s']['median']:,.0f}"]
            for rate, name in others.items():
                ratio = row[name]
                cells += [f"{row[rate]['median']:,.0f}", f"{ratio['median']:.2f}", f"{ratio['low']:.2f} - {ratio['high']:.2f}"]
            table.add_row(*cells)


def _startup(console: Console, found: dict[str, Any]) -> None:
    for part, title in (
        ("daemon_s", "`mertd run`, from the command until"),
        ("embed_alone_s", "Stages of the embed process, one after the other (the daemon overlaps some)"),
        ("command_cpu_s", "CPU of short commands"),
    ):
        with _table(console, title, "", "seconds", "quartiles") as table:
            for name, spread in found[part].items():
                table.add_row(name, f"{spread['median']:.2f}", f"{spread['low']:.2f} - {spread['high']:.2f}")


def _streams(console: Console, found: dict[str, Any]) -> None:
    title = f"Streams in real time, a window every 5 s: {found['carried']} without a window skipped"
    columns = ("streams", "open after", "due", "embedded", "skipped", "supervisor", "captures", "model", "ended by")
    with _table(console, title, *columns) as table:
        for trial in found["trials"]:
            load = trial["load"]
            counts = (str(trial[name]) for name in ("due", "embedded", "skipped"))
            shares = (f"{load[name]:.0f} %" if load else "" for name in ("supervisor", "captures", "model"))
            table.add_row(str(trial["streams"]), f"{trial['start_s']:.1f} s", *counts, *shares, trial["ended_by"])


def _energy(console: Console, found: dict[str, Any]) -> None:
    columns = ("", "ms a window", "CPU s a window", "joules a window", "above idle")
    with _table(console, "Windows one after another", *columns) as table:
        for row in found["windows"]:
            name = f"{row['backend']} {row['precision']}, {row['batch']} at once"
            joules = (_sum(row[key], "J", 2) for key in ("joules", "joules_above_idle"))
            table.add_row(printable(name), f"{row['ms']:.1f}", f"{row['cpu_s']:.3f}", *joules)
    parts = ("", "windows", "CPU s an hour", "supervisor", "capture", "model", "watts above idle")
    with _table(console, "A daemon with one stream in real time", *parts) as table:
        for row in found["daemons"]:
            used = row["cpu_s_per_hour"]
            capture = sum(taken for name, taken in used.items() if name not in ("supervisor", "embed"))
            cells = (sum(used.values()), used.get("supervisor", 0.0), capture, used.get("embed", 0.0))
            watts = _sum(row["watts_above_idle"], "W", 2)
            table.add_row(row["name"], str(row["windows"]), *(f"{cell:.0f}" for cell in cells), watts)
    for name, watts in found["idle_w"].items():
        console.print(printable(f"{name}: {watts:.1f} W without mertd"))
    if not found["meters"]:
        console.print("This machine does not tell how much energy it takes:")
    for reason in found["absent"]:
        console.print(printable(reason))


def _sum(of_meters: dict[str, float], unit: str, digits: int) -> str:
    return f"{sum(of_meters.values()):.{digits}f} {unit}" if of_meters else "not told"


def _changes(console: Console, found: dict[str, Any]) -> None:
    untrained = "" if found["trained"] else ", UNTRAINED"
    title = (
        f"Changes found in {found['pieces']} pieces, {found['cuts']} cuts and {found['fades']} fades, layer {found['layer']}"
    )
    columns = ("vectors", "precision", "recall", "of cuts", "of fades", "bound, s", "median error, s", "delay, s")
    with _table(console, f"{title}{untrained}", *columns) as table:
        for name, row in found["detectors"].items():
            shares = (f"{row[key]:.2f}" for key in ("precision", "recall", "recall_cuts", "recall_fades"))
            table.add_row(name, *shares, *(f"{row[key]:.1f}" for key in ("bound_s", "error_s", "delay_s")))


def _files(console: Console, found: dict[str, Any]) -> None:
    files, decoders = found["files"], found["decoders"]
    title = f"{files} sound files of {found['seconds']:g} s, {found['windows']} windows, {found['backend']}"
    with _table(console, title, "whole command", "seconds", "quartiles", "files a minute") as table:
        for name, spread in found["whole_s"].items():
            spans = f"{spread['low']:.2f} - {spread['high']:.2f}"
            table.add_row(name, f"{spread['median']:.2f}", spans, f"{60 * files / spread['median']:,.0f}")
    title = f"After its start, {decoders} decoders, batches of {found['batch']}"
    with _table(console, title, "", "seconds") as table:
        for name, seconds in found["parts_s"].items():
            table.add_row(name, f"{seconds:.2f}")
    for note in found["notes"]:
        console.print(printable(note))
